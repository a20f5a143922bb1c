"""One flipped bit anywhere in a store, a state or a manifest: found and repaired, refused with one line, or without effect.

``RADPS_FLIPS=1000`` makes a long soak of the sample; ``RADPS_FLIPS_SEED`` chooses another one. The table of outcomes is
printed at the end. Each flip is met by a process of its own, so that a crash of a library is seen as one.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from support import jobs

from radps_mpi.__main__ import main

pytestmark = pytest.mark.launches_mpi

FLIPS = int(os.environ.get("RADPS_FLIPS", "30"))
SEED = int(os.environ.get("RADPS_FLIPS_SEED", "1"))
SECONDS = 120.0 + 5.0 * FLIPS

REPAIRED, REFUSED, HARMLESS = "found and repaired: same hashes", "refused with one line, status 65", "no effect: same hashes"
FOUND = ("damaged", "is damaged", "missing at its end", "were being written", "going back to manifest.previous")


@pytest.mark.timeout(SECONDS)
@pytest.mark.fault("corruption", "one flipped bit anywhere", "no changed image, no crash")
def test_no_flipped_bit_changes_an_image_or_crashes(
    small_store: Path, kept_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], injected: Callable[..., None]
) -> None:
    good = jobs.product_hashes(kept_run)
    assert made_anew(tmp_path / "warm", small_store) == 0, "and all that a run needs is loaded and compiled before the forks"
    folder = tmp_path / "flipped"
    outcomes: Counter[tuple[str, str]] = Counter()
    flips = random.Random(SEED)
    for number in range(FLIPS):
        kind = ("store", "state.h5", "manifest")[number % 3]
        outcome = met_by_a_run(folder, small_store, kept_run, kind, flips, good)
        outcomes[kind, outcome] += 1
        injected(happened=outcome, what=f"one flipped bit anywhere in the {kind}")
    with capsys.disabled():
        print(f"\n{FLIPS} flipped bits, seed {SEED}:")
        for (kind, outcome), count in sorted(outcomes.items()):
            print(f"  {count:5d}  {kind:9s} {outcome}")
    assert {outcome for _, outcome in outcomes} <= {REPAIRED, REFUSED, HARMLESS}, outcomes


def met_by_a_run(
    folder: Path, store: Path, run: Path, kind: str, flips: random.Random, good: dict[str, str]
) -> str:
    """Flip a bit of a copy, resume it (or image a store anew), and say what came of it."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(f"{run}.radps", folder / "cube.radps")
    shutil.copy(store, folder / "sim.vis.h5")
    config = folder / "cube.radps" / "config.toml"
    config.write_text(config.read_text().replace(str(store), str(folder / "sim.vis.h5")))
    path = folder / "sim.vis.h5" if kind == "store" else folder / "cube.radps" / kind
    offset, bit = flip(path, flips)
    if kind == "store":
        shutil.rmtree(folder / "cube.radps")
        status, said = in_a_process(lambda: made_anew(folder / "cube", path), folder / "said")
    else:
        status, said = in_a_process(lambda: main(["resume", str(folder / "cube")]), folder / "said")
    errors = [line for line in said.splitlines() if line.startswith("radps: error:")]
    if status == 0 and jobs.product_hashes(folder / "cube") == good:
        return REPAIRED if any(word in said for word in FOUND) else HARMLESS
    if status == 65 and len(errors) == 1 and str(path.parent) in errors[0]:
        return REFUSED
    return f"byte {offset} bit {bit}: status {status}: {said[-400:]}"


def flip(path: Path, flips: random.Random) -> tuple[int, int]:
    """Half of the flips go anywhere, half where something is written: most of a small state is alignment."""
    data = bytearray(path.read_bytes())
    offset = flips.randrange(len(data))
    if flips.random() < 0.5:
        while not data[offset]:
            offset = flips.randrange(len(data))
    bit = flips.randrange(8)
    data[offset] ^= 1 << bit
    path.write_bytes(data)
    return offset, bit


def made_anew(imagename: Path, store: Path) -> int:
    """What ``radps image`` does on one rank, in this process: reads every byte of the visibilities."""
    return main(["image", str(store), "--imagename", str(imagename), *jobs.IMAGE])


def in_a_process(work: Callable[[], int], said: Path) -> tuple[int, str]:
    """Exit status (negative: the signal that ended it) and stderr of ``work`` in a fork of this process, in which everything
    is loaded already."""
    child = os.fork()
    if child == 0:
        with open(said, "w", buffering=1) as stderr:
            os.dup2(stderr.fileno(), 2)
            sys.stderr = stderr
            status = 1
            try:
                status = work()
            except BaseException:
                traceback.print_exc()
            stderr.flush()
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status, said.read_text(errors="replace")


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("name", ["model", "older", "residual", "psf"])
@pytest.mark.fault("corruption", "one flipped bit in a plane of the state: {name}", "resumed on 1 and 2 ranks: same hashes")
def test_a_damaged_plane_is_made_again_with_its_bits_on_any_number_of_ranks(
    kept_run: Path, tmp_path: Path, name: str, ranks: int
) -> None:
    from radps_mpi.io import manifest
    from radps_mpi.io.state_file import StateLayout

    shutil.copytree(f"{kept_run}.radps", tmp_path / "cube.radps")
    state = tmp_path / "cube.radps" / "state.h5"
    read = manifest.read(tmp_path / "cube.radps" / "manifest")
    layout = StateLayout.from_header(read.header["state"], state)
    slot = int(read.table[2]["slot"])
    dataset = {"model": f"model_{slot}", "older": f"model_{1 - slot}"}.get(name, name)
    with open(state, "r+b") as file:
        at = layout.offset_bytes[dataset] + 2 * layout.plane_bytes(dataset) + 2002
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))
    done = jobs.succeed(["resume", tmp_path / "cube"], ranks)
    said = {"model": "recomputing damaged models", "residual": "recomputing torn planes", "psf": "recomputing PSFs"}
    assert name == "older" or said[name] in done.stderr
    assert jobs.product_hashes(tmp_path / "cube") == jobs.product_hashes(kept_run)


@pytest.mark.fault(
    "corruption", "both models of a channel changed",
    "status 65, one line naming the channel: start the run again",
)  # fmt: skip
def test_both_models_of_a_channel_damaged_ask_for_a_new_run(kept_run: Path, tmp_path: Path) -> None:
    import h5py

    shutil.copytree(f"{kept_run}.radps", tmp_path / "cube.radps")
    with h5py.File(tmp_path / "cube.radps" / "state.h5", "r+") as file:
        for dataset in ("model_0", "model_1"):
            file[dataset][1, 3, 3] += 1.0
    done = jobs.run_radps(["resume", tmp_path / "cube"], ranks=2)
    (line,) = jobs.error_lines(done)
    assert done.returncode == 65 and "model of channel 1" in line and "start the run again" in line


@pytest.mark.fault("corruption", "a changed byte of a visibility", "status 65, one line naming file and channel: ingest again")
def test_a_damaged_visibility_names_file_channel_and_what_to_do(small_store: Path, tmp_path: Path) -> None:
    import h5py

    store = Path(shutil.copy(small_store, tmp_path / "sim.vis.h5"))
    with h5py.File(store, "r") as file:
        at = file["observation_00000/vis"].id.get_offset() + file["observation_00000/vis"].nbytes // 2 + 9
    with open(store, "r+b") as raw:
        raw.seek(at)
        raw.write(b"\xa5")
    arguments = ["image", store, "--imagename", tmp_path / "a", "--imsize", "32", "--cell", "1arcsec"]
    done = jobs.run_radps(arguments, ranks=2)
    (line,) = jobs.error_lines(done)
    assert done.returncode == 65 and str(store) in line and "channel 2" in line and "radps ingest" in line


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.fault(
    "corruption", "SIGKILL in mid-cycle, then a changed byte of a model",
    "made again on 1 and 2 ranks: same hashes",
)  # fmt: skip
def test_a_model_damaged_in_the_middle_of_a_cycle_is_made_again_with_its_bits(
    small_store: Path, kept_run: Path, tmp_path: Path, ranks: int
) -> None:
    from radps_mpi.io import manifest
    from radps_mpi.io.state_file import StateLayout

    args = ["image", small_store, "--imagename", tmp_path / "cube", *jobs.IMAGE]
    assert jobs.run_radps(args, 1, {"RADPS_FAULT": "after-rename:7:0"}).returncode == 137
    root = tmp_path / "cube.radps"
    read = manifest.read(root / "manifest")
    assert read.header["plan"] is not None and read.table["cycle"][1] == read.header["control"]["cycle"] + 1 > 1
    layout = StateLayout.from_header(read.header["state"], root / "state.h5")
    dataset = f"model_{int(read.table[1]['slot'])}"
    with open(root / "state.h5", "r+b") as file:
        file.seek(layout.offset_bytes[dataset] + layout.plane_bytes(dataset) + 2000)
        file.write(b"\x3f")
    done = jobs.succeed(["resume", tmp_path / "cube"], ranks)
    assert "recomputing damaged models" in done.stderr
    assert jobs.product_hashes(tmp_path / "cube") == jobs.product_hashes(kept_run)
