"""What may be resumed, and how: finished runs, changed limits; what is refused; what a failing run must leave alone."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import h5py
import pytest
from support import jobs

pytestmark = pytest.mark.launches_mpi

DIRTY = ["--imsize", "64", "--cell", "30arcsec", "--nchan", "20", "--start", "9"]
CLEAN = [*DIRTY, "--niter", "4000", "--cycleniter", "40", "--threshold", "8mJy"]


def image(store: Path, imagename: Path, *more: str) -> list[object]:
    return ["image", store, "--imagename", imagename, *CLEAN, *more]


@pytest.fixture(scope="module")
def two_cycles(galaxy_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two major cycles whose state was kept."""
    imagename = tmp_path_factory.mktemp("finished") / "cube"
    jobs.succeed(image(galaxy_store, imagename, "--nmajor", "2", "--keep-state"), ranks=2)
    return imagename


@pytest.fixture(scope="module")
def one_cycle(galaxy_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, stopped after one major cycle."""
    imagename = tmp_path_factory.mktemp("shorter") / "cube"
    jobs.succeed(image(galaxy_store, imagename, "--nmajor", "1", "--keep-state"), ranks=3)
    return imagename


@pytest.fixture
def copied(one_cycle: Path, tmp_path: Path) -> Path:
    """A copy of the run of one cycle, to be damaged or continued."""
    shutil.copytree(one_cycle.parent, tmp_path, dirs_exist_ok=True)
    return tmp_path / one_cycle.name


def iterations(stderr: str) -> list[int]:
    """Iterations of each cycle that a run reported."""
    return [int(line.split(" after ")[1].split()[0]) for line in stderr.splitlines() if " after " in line]


def test_a_finished_run_whose_state_was_kept_can_be_resumed_to_the_same_bits(two_cycles: Path) -> None:
    before = jobs.product_hashes(two_cycles)
    done = jobs.succeed(["resume", two_cycles], ranks=3)
    assert jobs.product_hashes(two_cycles) == before
    assert "major cycle" not in done.stderr, "nothing is left to be done"


@pytest.mark.fault("two runs", "resume of a finished run without state", "0; 64 with other parameters; products untouched")
def test_a_finished_run_whose_state_was_not_kept_is_not_made_again_by_mistake(copied: Path) -> None:
    before = jobs.product_hashes(copied)
    for name in ("manifest", "manifest.previous"):
        (Path(f"{copied}.radps") / name).unlink()
    again = jobs.succeed(["resume", copied], ranks=2)
    assert again.stdout == f"{copied}: finished already, nothing to resume\n"
    assert not Path(f"{copied}.radps/state.h5").exists(), "a kill amid the removal of the state may leave it"
    refused = jobs.run_radps(["resume", copied, "--niter", "9000"], ranks=2)
    (line,) = jobs.error_lines(refused)
    assert refused.returncode == 64 and "finished" in line and "--keep-state" in line
    assert jobs.product_hashes(copied) == before


def test_a_resume_of_a_finished_run_removes_what_a_kill_amid_its_last_words_left(copied: Path) -> None:
    root = Path(f"{copied}.radps")
    for name in ("manifest", "manifest.previous"):
        (root / name).unlink()
    (root / "provenance.json.tmp").write_bytes(b"half of")
    jobs.succeed(["resume", copied], ranks=2)
    assert not list(root.glob("*.tmp"))


def test_more_major_cycles_on_resume_give_the_bits_of_a_run_that_had_them_from_the_start(
    copied: Path, one_cycle: Path, two_cycles: Path
) -> None:
    assert jobs.product_hashes(one_cycle) != jobs.product_hashes(two_cycles)
    jobs.succeed(["resume", copied, "--nmajor", "2"], ranks=1)
    assert jobs.product_hashes(copied) == jobs.product_hashes(two_cycles)


@pytest.mark.parametrize("bad", [["circle[[900pix,32pix],9pix]"], ["nowhere.fits"]])
@pytest.mark.fault(
    "two runs", "resume with a mask that can't be used",
    "one line; parameters untouched; the next resume has the same hashes",
)  # fmt: skip
def test_a_resume_that_is_refused_changes_nothing_for_the_next(copied: Path, two_cycles: Path, bad: list[str]) -> None:
    config = Path(f"{copied}.radps") / "config.toml"
    before = config.read_bytes()
    refused = jobs.run_radps(["resume", copied, "--nmajor", "9", "--products", "image", "--mask", *bad], ranks=2)
    (line,) = jobs.error_lines(refused)
    assert refused.returncode in (64, 65) and "mask" in line
    assert config.read_bytes() == before
    jobs.succeed(["resume", copied, "--nmajor", "2"], ranks=2)
    assert jobs.product_hashes(copied) == jobs.product_hashes(two_cycles)


def test_a_mask_given_on_resume_is_found_from_any_directory(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(f"{copied}.mask.fits", tmp_path / "own.fits")
    monkeypatch.chdir(tmp_path)
    jobs.succeed(["resume", copied.name, "--mask", "own.fits", "--keep-state"], ranks=1)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    jobs.succeed(["resume", "../" + copied.name, "--nmajor", "2"], ranks=2)


def test_a_lower_threshold_and_more_iterations_on_resume_clean_deeper(copied: Path) -> None:
    done = jobs.succeed(["resume", copied, "--nmajor", "-1", "--niter", "8000", "--threshold", "6mJy"], ranks=2)
    last = [line for line in done.stderr.splitlines() if line.startswith("radps: cycle ")][-1]
    assert len(iterations(done.stderr)) >= 1 and "threshold" in last
    assert float(last.split("peak residual ")[1].split()[0]) <= 6.0 * 1.01, "tclean's tolerance of the threshold"


def test_fewer_products_on_resume_write_only_those(copied: Path) -> None:
    for path in copied.parent.glob("*.fits"):
        path.unlink()
    jobs.succeed(["resume", copied, "--products", "model", "residual"], ranks=2)
    assert set(jobs.product_hashes(copied)) == {"model", "residual"}


@pytest.mark.parametrize(("version", "age"), [(b"3", "older"), (b"5", "newer")])
@pytest.mark.fault("two runs", "resume of a state of an older or newer version", "status 65, one line; products untouched")
def test_a_state_of_another_version_is_refused_in_one_line(copied: Path, version: bytes, age: str) -> None:
    manifest = Path(f"{copied}.radps") / "manifest"
    data = manifest.read_bytes()
    name, old, rest = data.split(b" ", 2)
    assert old == b"4"
    manifest.write_bytes(b" ".join((name, version, rest)))
    before = jobs.product_hashes(copied)
    refused = jobs.run_radps(["resume", copied], ranks=2)
    (line,) = jobs.error_lines(refused)
    assert refused.returncode == 65 and str(manifest) in line and f"version {version.decode()} is {age}" in line
    assert jobs.product_hashes(copied) == before


@pytest.mark.fault("two runs", "resume with other visibilities than before", "status 65, one line that says so")
def test_a_state_of_other_visibilities_is_refused(copied: Path, galaxy: Path, galaxy_store: Path) -> None:
    config = Path(f"{copied}.radps") / "config.toml"
    other = copied.parent / "other.vis.h5"
    jobs.succeed(["ingest", galaxy, "-o", other, "--uvrange", ">200m"])
    assert str(galaxy_store) in config.read_text()
    config.write_text(config.read_text().replace(str(galaxy_store), str(other)))
    refused = jobs.run_radps(["resume", copied], ranks=2)
    (line,) = jobs.error_lines(refused)
    assert refused.returncode == 65 and "the state was made with different visibilities" in line


@pytest.mark.parametrize(("was", "now"), [('weighting = "natural"', 'weighting = "uniform"'), ("gain = 0.1", "gain = 0.5")])
@pytest.mark.fault(
    "two runs", "resume after config.toml was edited",
    "status 64, one line naming the parameter; resumed once it is as before",
)  # fmt: skip
def test_a_state_of_other_parameters_is_refused_by_name(copied: Path, was: str, now: str) -> None:
    config = Path(f"{copied}.radps") / "config.toml"
    text = config.read_text()
    assert was in text
    config.write_text(text.replace(was, now))
    refused = jobs.run_radps(["resume", copied, "--nmajor", "2"], ranks=2)
    (line,) = jobs.error_lines(refused)
    name, value = was.split(" = ")
    assert refused.returncode == 64 and f"config.toml: {name} was {value} when the run began" in line
    config.write_text(text)
    jobs.succeed(["resume", copied, "--nmajor", "2"])


@pytest.mark.fault(
    "corruption", "a state with a flipped bit in every 4 KB",
    "found by verify; all made again on resume, same hashes",
)  # fmt: skip
def test_a_state_damaged_all_over_is_made_again_with_its_bits(copied: Path) -> None:
    state = Path(f"{copied}.radps") / "state.h5"
    before = jobs.product_hashes(copied)
    damaged = bytearray(state.read_bytes())
    for at in range(8192, len(damaged), 4096):
        damaged[at] ^= 0x40
    state.write_bytes(damaged)
    assert jobs.run_radps(["verify", copied]).returncode == 65
    done = jobs.succeed(["resume", copied], ranks=3)
    assert all(f"recomputing {what}" in done.stderr for what in ("PSFs", "damaged models"))
    assert jobs.product_hashes(copied) == before


@pytest.mark.fault("corruption", "a changed pixel of a PSF or a residual", "made again on resume, same hashes", times=2)
def test_a_residual_and_a_psf_damaged_on_disk_are_made_again_with_their_bits(copied: Path, two_cycles: Path) -> None:
    state = Path(f"{copied}.radps") / "state.h5"
    with h5py.File(state, "r+") as file:
        file["psf"][3, 10, 10] += 1.0
        file["residual"][18, 20, 20] += 1.0
    done = jobs.succeed(["resume", copied, "--nmajor", "2"], ranks=2)
    assert all(f"1 channels were being written when the run stopped, or are damaged: recomputing {what}" in done.stderr
               for what in ("PSFs", "torn planes"))
    assert jobs.product_hashes(copied) == jobs.product_hashes(two_cycles)


@pytest.mark.fault(
    "corruption", "a state with a flipped bit in every 4 KB",
    "found by verify; all made again on resume, same hashes",
)  # fmt: skip
def test_clark_goes_on_from_a_damaged_state_to_the_bits_of_an_undisturbed_run(galaxy_store: Path, tmp_path: Path) -> None:
    whole, copy = tmp_path / "whole", tmp_path / "cube"
    jobs.succeed(image(galaxy_store, whole, "--deconvolver", "clark", "--nmajor", "2"), ranks=3)
    jobs.succeed(image(galaxy_store, copy, "--deconvolver", "clark", "--nmajor", "1", "--keep-state"), ranks=1)
    state = Path(f"{copy}.radps") / "state.h5"
    damaged = bytearray(state.read_bytes())
    for at in range(8192, len(damaged), 4096):
        damaged[at] ^= 0x40
    state.write_bytes(damaged)
    done = jobs.succeed(["resume", copy, "--nmajor", "2"], ranks=2)
    assert "recomputing damaged models" in done.stderr
    assert jobs.product_hashes(copy) == jobs.product_hashes(whole)


@pytest.mark.fault(
    "two runs", "a second run, or a resume, in the directory of a running one",
    "status 64, one line naming the holder's process; the first run ends well", times=2,
)  # fmt: skip
def test_a_second_run_in_the_same_directory_is_refused_and_does_no_harm(galaxy_store: Path, tmp_path: Path) -> None:
    imagename = tmp_path / "cube"
    lock = Path(f"{imagename}.radps") / "lock"
    with jobs.Job(["image", galaxy_store, "--imagename", imagename, *DIRTY], ranks=2) as first:
        assert first.wait_until(lambda: lock.exists() and lock.stat().st_size > 0)
        ranks = first.rank_pids()
        for pid in ranks:
            os.kill(pid, signal.SIGSTOP)
        second = jobs.run_radps(["image", galaxy_store, "--imagename", imagename, *DIRTY, "--overwrite"], ranks=2)
        resumed = jobs.run_radps(["resume", imagename], ranks=1)
        for pid in ranks:
            os.kill(pid, signal.SIGCONT)
        finished = first.finish(60)
    for refused in (second, resumed):
        (line,) = jobs.error_lines(refused)
        assert refused.returncode == 64 and "in use by process" in line and str(imagename) in line
    assert finished.returncode == 0, finished.stderr
    assert len(jobs.product_hashes(imagename)) == 7


@pytest.mark.fault(
    "two runs", "a second ingest into a store that is being written",
    "status 64, one line naming the holder; the first ends well",
)  # fmt: skip
def test_a_second_ingest_into_a_store_is_refused_and_does_no_harm(galaxy: Path, tmp_path: Path) -> None:
    store, hold = tmp_path / "a.vis.h5", tmp_path / "hold"
    hold.touch()
    wait = {"RADPS_FAULT": "ingest-chunk:1:0:wait", "RADPS_FAULT_HOLD": str(hold)}
    with jobs.Job(["ingest", galaxy, "-o", store], 2, wait) as job:
        assert job.wait_until(lambda: hold.read_text() == "reached")
        refused = jobs.run_radps(["ingest", galaxy, "-o", store, "--scan", "1"])
        hold.unlink()
        done = job.finish(60)
    (line,) = jobs.error_lines(refused)
    assert refused.returncode == 64 and f"{store} is being written by another ingest (process " in line
    assert done.returncode == 0, done.stderr
    jobs.succeed(["verify", store])
    assert [path.name for path in tmp_path.iterdir()] == [store.name]


@pytest.mark.fault(
    "kills", "SIGKILL of an ingest that holds its store's lock",
    "the next ingest succeeds, nothing left",
)  # fmt: skip
def test_the_lock_of_an_ingest_that_was_killed_is_nobody_s(galaxy: Path, tmp_path: Path) -> None:
    store = tmp_path / "a.vis.h5"
    killed = jobs.run_radps(["ingest", galaxy, "-o", store], 2, {"RADPS_FAULT": "ingest-chunk:1:0"})
    assert killed.returncode == 137
    jobs.succeed(["ingest", galaxy, "-o", store], ranks=2)
    assert [path.name for path in tmp_path.iterdir()] == [store.name]


@pytest.mark.fault("two runs", "a run onto products of an earlier one", "status 64, one line; replaced only with --overwrite")
def test_products_are_replaced_only_on_request(one_cycle: Path, copied: Path, galaxy_store: Path) -> None:
    before = jobs.product_hashes(copied)
    shutil.rmtree(f"{copied}.radps")
    args = ["image", galaxy_store, "--imagename", copied, *DIRTY]
    refused = jobs.run_radps(args, ranks=2)
    (line,) = jobs.error_lines(refused)
    assert refused.returncode == 64 and "cube.image.fits exists" in line and "--overwrite" in line
    assert jobs.product_hashes(copied) == before
    jobs.succeed([*args, "--overwrite"], ranks=2)
    assert jobs.product_hashes(copied).keys() == before.keys() and jobs.product_hashes(copied) != before


@pytest.mark.fault(
    "two runs", "a new run in the directory of an unfinished one",
    "status 64, one line that says how to resume; state untouched",
)  # fmt: skip
def test_an_unfinished_run_is_not_started_anew_by_mistake(copied: Path, galaxy_store: Path) -> None:
    refused = jobs.run_radps(["image", galaxy_store, "--imagename", copied, *DIRTY], ranks=2)
    (line,) = jobs.error_lines(refused)
    assert refused.returncode == 64 and f"radps resume {copied}" in line
    assert (Path(f"{copied}.radps") / "manifest").exists()


@pytest.mark.parametrize("bad", [["--mask", "circle[[1pix"], ["--phasecenter", "5"], ["--start", "9GHz"]])
@pytest.mark.fault(
    "two runs", "a new run with parameters that can't work, in place of an unfinished one",
    "status 64; the unfinished one is untouched to the byte",
)  # fmt: skip
def test_a_new_run_that_cannot_work_does_not_cost_an_unfinished_one(copied: Path, galaxy_store: Path, bad: list[str]) -> None:
    kept = {path.name: path.read_bytes() for path in Path(f"{copied}.radps").iterdir() if path.is_file()}
    assert "manifest" in kept and "state.h5" in kept
    refused = jobs.run_radps(["image", galaxy_store, "--imagename", copied, *DIRTY[:4], *bad, "--overwrite"], ranks=2)
    assert refused.returncode == 64, refused.stderr
    assert {name: Path(f"{copied}.radps", name).read_bytes() for name in kept} == kept


@pytest.mark.parametrize(
    "fault",
    [
        "reserve:1:0:enospc", "state-before-rename:1:0:raise", "state-before-rename:1:0:kill", "ingest-before-sync:1:0:raise",
        "ingest-before-rename:1:0:kill", "ingest-after-rename:1:0:kill",
    ],
)  # fmt: skip
@pytest.mark.fault(
    "kills", "a new run that is killed or fails before its first commit, in place of an unfinished one",
    "the unfinished one is given back; resumed: same hashes",
)  # fmt: skip
def test_a_new_run_that_fails_before_it_has_a_state_gives_the_unfinished_one_back(
    copied: Path, two_cycles: Path, galaxy: Path, galaxy_store: Path, fault: str
) -> None:
    root = Path(f"{copied}.radps")
    kept = {name: (root / name).read_bytes() for name in ("manifest", "state.h5", "config.toml")}
    source = galaxy if fault.startswith("ingest") else galaxy_store
    failed = jobs.run_radps(
        ["image", source, "--imagename", copied, *DIRTY[:4], "--niter", "0", "--overwrite"], 2, {"RADPS_FAULT": fault}
    )
    assert failed.returncode in (1, 74, 137), failed.stderr
    if "kill" in fault:  # nobody was left to give it back: the next run does
        assert (root / "replaced" / "manifest").exists()
    else:
        assert {name: (root / name).read_bytes() for name in kept} == kept
    jobs.succeed(["resume", copied, "--nmajor", "2"], ranks=3)
    assert jobs.product_hashes(copied) == jobs.product_hashes(two_cycles)
    assert not (root / "replaced").exists()


@pytest.mark.fault("kills", "SIGKILL before the manifest's rename, then resume from another directory", "resumed on 3 ranks")
def test_a_run_is_resumed_from_another_directory(galaxy_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(galaxy_store.parent)
    killed = {"RADPS_FAULT": "before-rename:2:0"}
    assert jobs.run_radps(["image", galaxy_store.name, "--imagename", tmp_path / "cube", *DIRTY], 2, killed).returncode == 137
    monkeypatch.chdir(tmp_path / "elsewhere")
    jobs.succeed(["resume", "../cube"], ranks=3)
    assert jobs.product_hashes(tmp_path / "cube")


@pytest.mark.parametrize(
    "fault", ["before-write:3:1:raise", "product-before-write:9:1:raise", "product-before-rename:1:0:enospc"]
)
@pytest.mark.fault(
    "disk", "an error or no space left (injected) in a run that replaces products",
    "status 1 or 74; the earlier products keep their hashes",
)  # fmt: skip
def test_a_run_that_fails_leaves_the_products_of_an_earlier_one_alone(copied: Path, galaxy_store: Path, fault: str) -> None:
    before = jobs.product_hashes(copied)
    args = ["image", galaxy_store, "--imagename", copied, *DIRTY, "--overwrite"]
    assert jobs.run_radps(args, 2, {"RADPS_FAULT": fault}).returncode in (1, 74)
    assert jobs.product_hashes(copied) == before
    assert not list(copied.parent.glob("*.partial"))
