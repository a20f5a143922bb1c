"""Rank-local arithmetic of ingest: orientation of baselines, blanking, order of rows. Arrays in, arrays out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radps_mpi import precision
from radps_mpi.errors import DataError
from radps_mpi.io.ingest_plan import ObservationPlan
from radps_mpi.io.ingest_scan import LONGEST_UVW_M
from radps_mpi.io.measurement_set_rows import MainTable, partner_correlations

BLANK = np.complex64(complex(np.nan, np.nan))
"""A sample without a good datum: always these bits."""

BLANK_REASONS = ("row_flag_samples", "flag_samples", "bad_weight_samples", "zero_weight_samples", "nonfinite_samples")
"""Counts of IngestReport, in the order in which a sample is tested."""

_MORTON_BITS = 15


def row_dtype(npol: int) -> np.dtype[Any]:
    """One row as it travels between ranks."""
    return np.dtype([
        ("uvw_m", "<f8", (3,)), ("time_index", "<i4"), ("antenna1", "<i4"), ("antenna2", "<i4"), ("scan", "<i4"),
        ("source_row", "<i8"), ("weight", "<f4", (npol,)),
    ])  # fmt: skip


@dataclass(frozen=True, slots=True)
class OrientedRows:
    """This rank's rows of a chunk in the MeasurementSet's order. ``blank``, ``swapped`` (nrow,) bool."""

    rows: NDArray[Any]
    blank: NDArray[np.bool_]
    bad_uvw: NDArray[np.bool_]
    swapped: NDArray[np.bool_]
    partner: NDArray[np.int64]
    """Correlation that takes each one's place in a swapped row."""


def read_rows(main: MainTable, plan: ObservationPlan, numbers: NDArray[np.int64]) -> OrientedRows:
    """Row columns of some rows, with antenna1 < antenna2: elsewhere the antennas change places and uvw its sign.

    Raises
    ------
    DataError
        If a column can't be read, or a row must be turned round whose cross hand has no partner.
    """
    rows = np.zeros(len(numbers), dtype=row_dtype(plan.meta.npol))
    if not len(numbers):
        none: NDArray[np.bool_] = np.zeros(0, dtype=bool)
        return OrientedRows(rows, none, none, none, np.arange(plan.meta.npol))
    antenna1, antenna2 = (main.column(name, numbers).astype(np.int32) for name in ("ANTENNA1", "ANTENNA2"))
    uvw_m = main.column("UVW", numbers).astype(np.float64)
    swapped = antenna1 > antenna2
    partner = partner_correlations(plan.meta.corr_types)
    if partner is None and swapped.any():
        raise DataError(
            f"{main.path}: columns ANTENNA1 and ANTENNA2 aren't in order and a cross hand's partner is missing"
        )
    bad_uvw = np.logical_not(np.abs(uvw_m) <= LONGEST_UVW_M).any(axis=1).astype(bool)
    uvw_m[swapped] *= -1.0
    uvw_m[bad_uvw] = 0.0
    rows["uvw_m"] = uvw_m + 0.0  # no negative zeros
    rows["time_index"] = np.searchsorted(plan.times_s, main.column("TIME", numbers))
    rows["antenna1"], rows["antenna2"] = np.minimum(antenna1, antenna2), np.maximum(antenna1, antenna2)
    rows["scan"] = main.column("SCAN_NUMBER", numbers)
    rows["source_row"] = numbers
    blank = main.column("FLAG_ROW", numbers).astype(bool) | bad_uvw
    oriented = OrientedRows(rows, blank, bad_uvw, swapped, np.arange(plan.meta.npol) if partner is None else partner)
    if not plan.meta.has_spectral_weight:
        _put_row_weights(main, plan, numbers, oriented)
    return oriented


def _put_row_weights(
    main: MainTable, plan: ObservationPlan, numbers: NDArray[np.int64], oriented: OrientedRows
) -> None:
    weight = main.column("WEIGHT", numbers)
    if weight.shape != (len(numbers), plan.meta.npol):
        raise DataError(f"{main.path}: column WEIGHT has cells that don't have {plan.meta.npol} correlations")
    oriented.rows["weight"] = _turn(weight.astype(precision.WEIGHT), oriented)


def _turn(block: NDArray[Any], oriented: OrientedRows) -> NDArray[Any]:
    """Exchange cross hands (the last axis) in swapped rows."""
    if oriented.swapped.any():
        block[oriented.swapped] = block[oriented.swapped][..., oriented.partner]
    return block


def clean_row_weights(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weights as stored: 0 where they are negative, infinite or NaN."""
    return np.where(np.isfinite(weight) & (weight > 0), weight, np.float32(0.0))


@dataclass(frozen=True, slots=True)
class Slab:
    """A band of channels of this rank's rows, in the store's channel order and ready to be sent: channel first.

    ``vis`` (nchan, npol, nrow) complex64; ``weight`` the same shape, float32, or None; ``counts`` blanked samples by
    reason.
    """

    vis: NDArray[np.complex64]
    weight: NDArray[np.float32] | None
    counts: dict[str, int]


def read_slab(main: MainTable, plan: ObservationPlan, oriented: OrientedRows, band: tuple[int, int]) -> Slab:
    """Read, orient and blank channels ``band[0] <= c < band[1]`` (the store's numbers) of this rank's rows."""
    meta, numbers = plan.meta, oriented.rows["source_row"]
    nchan = band[1] - band[0]
    if not len(numbers):
        empty = np.empty((nchan, meta.npol, 0), precision.VISIBILITY)
        return Slab(empty, empty.real.copy() if meta.has_spectral_weight else None, dict.fromkeys(BLANK_REASONS, 0))
    chan0, chan1 = plan.native_range(*band)
    order = slice(None, None, -1) if plan.descending else slice(None)

    def column(name: str) -> NDArray[Any]:
        return _turn(main.slab(name, numbers, chan0, chan1, meta.npol)[:, order], oriented)

    vis = column(meta.data_column).astype(precision.VISIBILITY, copy=False)
    np.conjugate(vis, out=vis, where=oriented.swapped[:, None, None])
    spectral = meta.has_spectral_weight
    weight = (
        column("WEIGHT_SPECTRUM").astype(precision.WEIGHT, copy=False)
        if spectral
        else oriented.rows["weight"][:, None, :]
    )
    blank = np.zeros(vis.shape, dtype=bool)
    blank |= oriented.blank[:, None, None]
    blank |= plan.unselected[None, band[0] : band[1], None]
    found = [int(np.count_nonzero(blank))]
    for reason in (column("FLAG"), ~(np.isfinite(weight) & (weight >= 0)), weight == 0, ~np.isfinite(vis)):
        blank |= reason
        found.append(int(np.count_nonzero(blank)))
    vis[blank] = BLANK
    if spectral:
        weight[blank] = 0.0
    counts = dict(zip(BLANK_REASONS, np.diff([0, *found]).tolist(), strict=True))
    return Slab(_channel_first(vis), _channel_first(weight) if spectral else None, counts)


def _channel_first(block: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(block.transpose(1, 2, 0))


def sorting_order(uvw_m: NDArray[np.float64]) -> NDArray[np.int64]:
    """Order of a chunk's rows along the Morton (Z-order) curve of (u, v), folded onto u >= 0: neighbours in the uv
    plane become neighbours in memory. (nrow,) indices; ties keep their order. Source: Morton 1966, IBM technical
    report."""
    u, v = uvw_m[:, 0], uvw_m[:, 1]
    fold = np.where(u < 0, -1.0, 1.0)
    scale = float(np.hypot(u, v).max(initial=0.0)) or 1.0
    cells = (1 << _MORTON_BITS) - 1
    x = (u * fold / scale * cells).astype(np.uint64)
    y = ((v * fold / scale * 0.5 + 0.5) * cells).astype(np.uint64)
    return np.argsort(_spread_bits(x) | (_spread_bits(y) << np.uint64(1)), kind="stable")


def _spread_bits(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Put a zero between the 16 low bits."""
    for shift, mask in ((8, 0x00FF00FF), (4, 0x0F0F0F0F), (2, 0x33333333), (1, 0x55555555)):
        value = (value | (value << np.uint64(shift))) & np.uint64(mask)
    return value
