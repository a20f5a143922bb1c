"""One row of the convergence table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class CycleReport:
    """What one look at the residuals found and what the minor cycles before it did.

    Row 0 is the dirty cube: no iterations, no threshold (0). Row n follows the n-th set of minor cycles and the major
    cycle after it. Fluxes and peaks are over all valid channels; in mode "plane" the threshold is the largest of the
    channels'.
    """

    cycle: int
    cycle_threshold_jy: float
    channels_cleaned: int
    iterations: int
    total_iterations: int
    peak_residual_jy: float
    model_flux_jy: float
    stop: str
    """Why the run stopped here; empty while it goes on."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, exact through JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> CycleReport:
        """Inverse of :meth:`to_dict`."""
        return cls(**values)


_HEAD = "cycle threshold/mJy channels iterations      total   peak/mJy   model/Jy  stop"


def convergence_table(reports: Iterable[CycleReport]) -> str:
    """The rows as aligned text, one line per cycle, mJy."""
    return "\n".join([_HEAD, *map(_row, reports)]) + "\n"


def _row(r: CycleReport) -> str:
    counts = f"{r.channels_cleaned:8d} {r.iterations:10d} {r.total_iterations:10d}"
    fluxes = f"{1e3 * r.peak_residual_jy:10.4f} {r.model_flux_jy:10.4f}"
    return f"{r.cycle:5d} {1e3 * r.cycle_threshold_jy:13.4f} {counts} {fluxes}  {r.stop}".rstrip()
