"""What people see of a run: log lines, status.json, the convergence table. Rank 0 writes; the calls are made by all ranks."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import fields

from radps_mpi import alarm, streams
from radps_mpi.data.cycle_report import CycleReport
from radps_mpi.errors import RadpsError, printable
from radps_mpi.imaging.stopping import ControlState
from radps_mpi.io.commit import Checkpoint
from radps_mpi.io.run_directory import RunDirectory, now_text
from radps_mpi.io.run_status import Status
from radps_mpi.journey.measuring import Stopwatch
from radps_mpi.parallel.types import Comm

_CYCLE_NUMBER = re.compile(r" \d+$")


class Reporter:
    """Reports of one run. Only rank 0 does anything.

    Reports are news, not state: a disk that refuses one stops no run (nor leaves the other ranks waiting for rank 0) and hides
    no other error. The first refusal is told on stderr.
    """

    def __init__(self, comm: Comm, directory: RunDirectory) -> None:
        self._rank, self._nrank, self._directory = comm.rank, comm.size, directory
        self._phase, self._began = "", time.monotonic()
        self._control: tuple[int, int, float | None] = (0, 0, None)
        self._refused = False
        self.watch = Stopwatch()

    def note(self, text: str) -> None:
        """One line on stderr and in the log."""
        if self._rank == 0:
            text = printable(text)
            streams.tell(f"radps: {text}\n")
            self._keep(lambda: self._append(f"{now_text()} {text}\n"))

    def phase(self, phase: str, total: int, done: int = 0) -> None:
        """A part of the run begins, with so much to do."""
        self._turn_to(phase)
        self.note(f"{phase}: {total}")
        self._write(done, total, None)

    def progress(self, phase: str, done: int, total: int, state: Checkpoint) -> None:
        """``done`` of ``total`` rounds of a phase are committed."""
        if phase != self._phase:
            self._turn_to(phase)
        spent = time.monotonic() - self._began
        self._write(done, total, spent * (total - done) / done if done else None)
        if done == total:
            self.note(f"{phase}: done (commit {state.header['commit']})")

    def cycle(self, state: ControlState) -> None:
        """A look at the residuals: a row of the convergence table."""
        self._control = (state.cycle, state.iterdone, float(state.peak_jy.max(initial=0.0)))
        last = state.history[-1]
        text = f"cycle {last.cycle}: peak residual {1e3 * last.peak_residual_jy:.4g} mJy/beam"
        if last.iterations:
            text += f" after {last.iterations} iterations down to {1e3 * last.cycle_threshold_jy:.4g} mJy/beam"
            text += f", model {last.model_flux_jy:.4g} Jy"
        self.note(text + (f"; {last.stop}" if last.stop else ""))
        if self._rank == 0:
            names = [f.name for f in fields(CycleReport)]
            rows = [[getattr(row, name) for name in names] for row in state.history]
            self._keep(lambda: self._directory.write_convergence(names, rows))

    def event(self, event: str, more: Callable[[], Mapping[str, object]] = dict, **details: object) -> None:
        """An entry of provenance.json; ``more`` details are asked for on rank 0 alone."""
        if self._rank == 0:
            self._keep(lambda: self._directory.add_event(event, **details, **more()))

    def _turn_to(self, phase: str) -> None:
        self._phase, self._began = phase, time.monotonic()
        self.watch.turn_to(_CYCLE_NUMBER.sub("", phase))

    def _write(self, done: int, total: int, eta_s: float | None) -> None:
        if self._rank == 0:
            cycle, iterations, peak = self._control
            status = Status(self._phase, cycle, done, total, eta_s, peak, iterations, self._nrank)
            self._keep(lambda: self._directory.write_status(status))

    def _append(self, line: str) -> None:
        with alarm.open_log(self._directory.logs / "radps.log") as log:
            log.write(line)

    def _keep(self, write: Callable[[], None]) -> None:
        try:
            write()
        except (OSError, RadpsError) as error:
            if not self._refused:
                streams.tell(f"radps: warning: reports of this run can't be written: {error}\n")
            self._refused = True
