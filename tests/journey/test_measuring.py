"""What a run keeps of itself: seconds by part, and the most memory that its process has had."""

from __future__ import annotations

import time
from pathlib import Path

from radps_mpi.journey.measuring import Stopwatch, peak_memory_bytes
from radps_mpi.planning.model import STARTING


def test_parts_that_come_again_add_up_and_the_start_is_the_process_s() -> None:
    watch = Stopwatch()
    for part in ("minor cycles", "major cycle", "minor cycles", "end"):
        watch.turn_to(part)
        time.sleep(0.02)
    seconds = watch.seconds()
    assert list(seconds) == [STARTING, "minor cycles", "major cycle"]
    assert seconds["minor cycles"] >= 0.04 > 0.02 <= seconds["major cycle"]
    assert seconds[STARTING] > 0.0


def test_memory_is_the_kernel_s_count_for_this_process(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tx\nVmPeak:\t  900 kB\nVmHWM:\t  300 kB\nVmRSS:\t  200 kB\n")
    assert peak_memory_bytes(status) == 300 * 1024


def test_memory_is_getrusage_s_where_the_system_has_no_such_file(tmp_path: Path) -> None:
    assert peak_memory_bytes(tmp_path / "none") > 1 << 20
