"""What the visibility store knows about one observation, and what ingest counted on the way."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class IngestReport:
    """Counts of one observation. Rows are baselines at one integration, samples are single visibilities (row, channel,
    correlation). A blanked sample is counted once, under the first reason of: row_flag, flag, bad_weight, zero_weight,
    nonfinite.
    """

    rows: int = 0
    """Rows in the store."""
    autocorrelation_rows: int = 0
    """Selected rows left out because both antennas are the same."""
    swapped_rows: int = 0
    """Rows with antenna1 > antenna2: conjugated, uvw negated, cross hands exchanged."""
    duplicate_rows: int = 0
    """Rows whose (time, baseline) another row has too; kept."""
    unsorted_rows: int = 0
    """Rows that are earlier than the row before them."""
    bad_uvw_rows: int = 0
    """Rows with non-finite uvw: blanked, uvw stored as 0."""
    samples: int = 0
    """rows x channels x correlations."""
    row_flag_samples: int = 0
    """Blanked because the row is flagged (FLAG_ROW), has bad uvw, or the channel wasn't selected."""
    flag_samples: int = 0
    """Blanked by FLAG."""
    bad_weight_samples: int = 0
    """Blanked because the weight is negative, infinite or NaN."""
    zero_weight_samples: int = 0
    """Blanked because the weight is zero."""
    nonfinite_samples: int = 0
    """Blanked because the visibility itself is infinite or NaN."""
    blank_channels: int = 0
    """Channels without a single good sample."""
    descending_channels: int = 0
    """Channels that were stored in the MeasurementSet in descending order of frequency and were reversed."""

    @property
    def good_samples(self) -> int:
        """Samples that carry weight."""
        return self.samples - sum(
            (
                self.row_flag_samples,
                self.flag_samples,
                self.bad_weight_samples,
                self.zero_weight_samples,
                self.nonfinite_samples,
            )
        )

    def as_dict(self) -> dict[str, int]:
        """Plain dictionary, in the order of the fields."""
        return asdict(self)


REPORT_FIELDS = tuple(f.name for f in fields(IngestReport))
"""Names of the counts, in order."""


@dataclass(frozen=True, slots=True)
class ObservationMeta:
    """One observation of a visibility store: one field through one spectral window of one MeasurementSet.

    ``freq_hz`` (nchan,) float64 ascending channel centres and ``width_hz`` (nchan,) float64 positive widths are
    native, in ``frequency_frame`` (a casacore name: TOPO, LSRK, ...). ``samples`` (nchan, npol) int64 counts good
    samples: zero everywhere in a blank channel. ``row_chunk`` rows make a chunk; the last one may be shorter.
    """

    index: int
    """Position in the store."""
    name: str
    """Of the group in the file."""
    source: str
    """Path of the MeasurementSet as it was given."""
    source_index: int
    """Position of the MeasurementSet in the list that was given."""
    field_id: int
    field_name: str
    object_name: str
    """Name of the source in the SOURCE table, or the field's name."""
    direction_rad: tuple[float, float]
    """Phase centre: right ascension and declination, in ``direction_frame``."""
    direction_frame: str
    """"J2000" (FK5) or "ICRS"."""
    ephemeris: bool
    """True if the phase centre moves (ephemeris table or polynomial): ``direction_rad`` is then only its first
    value."""
    data_desc_id: int
    spw_id: int
    spw_name: str
    frequency_frame: str
    first_channel: int
    """Native channel of the MeasurementSet's window that has the lowest stored frequency's place in ascending order."""
    telescope: str
    dish_diameters_m: tuple[float, ...]
    """Distinct dish diameters of the antennas with data, ascending."""
    observatory_itrf_m: tuple[float, float, float]
    observer: str
    project: str
    restfreq_hz: float
    """Rest frequency of the first line in the SOURCE table, 0 where none is given."""
    corr_types: tuple[str, ...]
    """Correlations as stored: XX, XY, YX, YY, RR, RL, LR, LL or I, Q, U, V."""
    data_column: str
    weight_column: str
    """WEIGHT (one per row and correlation) or WEIGHT_SPECTRUM (per channel too)."""
    time_scale: str
    """Scale of all times: UTC or TAI, as the MeasurementSet declares."""
    first_time_s: float
    """Earliest integration's midpoint, MJD in seconds."""
    last_time_s: float
    max_uv_m: float
    """Longest sqrt(u^2 + v^2), metres."""
    max_w_m: float
    """Largest abs(w), metres."""
    nrow: int
    ntime: int
    row_chunk: int
    freq_hz: NDArray[np.float64]
    width_hz: NDArray[np.float64]
    samples: NDArray[np.int64]
    report: IngestReport

    @property
    def nchan(self) -> int:
        """Native channels."""
        return len(self.freq_hz)

    @property
    def npol(self) -> int:
        """Correlations."""
        return len(self.corr_types)

    @property
    def nchunk(self) -> int:
        """Row chunks."""
        return -(-self.nrow // self.row_chunk)

    @property
    def has_spectral_weight(self) -> bool:
        """True if weights differ from channel to channel."""
        return self.weight_column == "WEIGHT_SPECTRUM"

    def blank_channels(self) -> NDArray[np.int64]:
        """Indices of the channels without a single good sample."""
        return np.flatnonzero(self.samples.sum(axis=1) == 0)

    def chunk_rows(self, chunk0: int, chunk1: int) -> tuple[int, int]:
        """First row and last row + 1 of the chunks ``chunk0 <= c < chunk1``."""
        return chunk0 * self.row_chunk, min(chunk1 * self.row_chunk, self.nrow)
