"""Rank-local arithmetic of ingest: orientation of baselines, blanking, order of rows. Arrays in, arrays out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from radps_kernels.corner_turn import turn_rows

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


class Buffers:
    """Memory for a slab's arrays, used again for the next one: the first touch of new pages costs more than work on them."""

    def __init__(self) -> None:
        self._kept: dict[str, NDArray[np.uint8]] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """An array of any content, C-contiguous; it holds until the same ``name`` is taken again."""
        nbytes = math.prod(shape) * np.dtype(dtype).itemsize
        if name not in self._kept or len(self._kept[name]) < nbytes:
            self._kept.pop(name, None)  # the old pages are free before new ones are asked for
            self._kept[name] = np.empty(nbytes, np.uint8)
        return self._kept[name][:nbytes].view(dtype).reshape(shape)


@dataclass(frozen=True, slots=True)
class Slab:
    """A band of channels of this rank's rows, in the store's order of both and ready to be sent: channel first.

    ``vis`` (nchan, npol, nrow) complex64; ``weight`` the same shape, float32, or None; ``counts`` blanked samples by
    reason; ``good`` (nchan, npol) int64, samples that aren't blank.
    """

    vis: NDArray[np.complex64]
    weight: NDArray[np.float32] | None
    counts: dict[str, int]
    good: NDArray[np.int64]


def read_slab(
    main: MainTable, plan: ObservationPlan, oriented: OrientedRows, order: NDArray[np.int64], band: tuple[int, int],
    buffers: Buffers,
) -> Slab:
    """Read, orient and blank channels ``band[0] <= c < band[1]`` (the store's numbers) of this rank's rows, which come in
    ``order`` (nrow,).

    The slab's arrays are of ``buffers``, and hold until the next one is read.
    """
    meta, numbers = plan.meta, oriented.rows["source_row"]
    nrow, nchan, npol = len(numbers), band[1] - band[0], meta.npol
    chan0, _ = plan.native_range(*band)
    spectral = meta.has_spectral_weight

    def column(name: str, dtype: DTypeLike) -> NDArray[Any]:
        block = buffers.take(f"read {name}", (nrow, nchan, npol), dtype)
        if nrow:
            main.slab(name, numbers, chan0, block)
        return block

    weight = column("WEIGHT_SPECTRUM", precision.WEIGHT) if spectral else oriented.rows["weight"][:, None, :].copy()
    turned = buffers.take("turned vis", (nchan, npol, nrow), precision.VISIBILITY)
    turned_weight = buffers.take("turned weight", (nchan, npol, nrow) if spectral else (0, 0, 0), precision.WEIGHT)
    counts, good = np.zeros(len(BLANK_REASONS), np.int64), np.zeros((nchan, npol), np.int64)
    turn_rows(
        column(meta.data_column, precision.VISIBILITY), column("FLAG", np.bool_), weight, spectral, oriented.blank,
        plan.unselected[band[0] : band[1]], oriented.swapped, oriented.partner, order, plan.descending, turned,
        turned_weight, counts, good,
    )  # fmt: skip
    return Slab(turned, turned_weight if spectral else None, dict(zip(BLANK_REASONS, counts.tolist(), strict=True)), good)


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
