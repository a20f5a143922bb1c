"""What measured runs teach the model: how much longer or shorter their parts took than it says."""

from __future__ import annotations

from collections.abc import Sequence

from radps_mpi.planning.fitting import MeasuredRun
from radps_mpi.planning.machine_constants import Machine
from radps_mpi.planning.model import NO_CORRECTIONS, PARTS, STARTING, Corrections, predict

_LEAST_S = 0.05
"""Parts that are shorter, measured or predicted, teach nothing."""

_FARTHEST = 5.0
"""A run that was disturbed, or an older version's, doesn't count for more."""


def corrections_from(runs: Sequence[MeasuredRun], machine: Machine) -> Corrections:
    """Factors of memory from all ``runs``, of time from those on the machine's processor. Starting is left out: a process that
    images twice has started once."""
    if not runs:
        return NO_CORRECTIONS
    predicted = [predict(run.work, machine, run.layout) for run in runs]
    alike = [(run, p) for run, p in zip(runs, predicted, strict=True) if run.processor == machine.processor]
    factors = {}
    for name in PARTS:
        spent = sum(run.seconds.get(name, 0.0) for run, _ in alike)
        expected = sum(p.part(name).seconds for _, p in alike)
        if name != STARTING and min(spent, expected) >= _LEAST_S:
            factors[name] = _bounded(spent / expected)
    above = [max(1.0, run.peak_memory_bytes - p.memory.base_bytes) for run, p in zip(runs, predicted, strict=True)]
    parts = [p.memory.peak_bytes - p.memory.base_bytes for p in predicted]
    return Corrections(factors, _bounded(sum(above) / sum(parts)))


def _bounded(factor: float) -> float:
    return min(_FARTHEST, max(1.0 / _FARTHEST, factor))
