"""radps plan: what it says of real sets, of an observation that is only imagined, and of runs that were measured."""

from __future__ import annotations

import json
import re
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from support import jobs

from radps_mpi.constants import ARCSEC_RAD, SPEED_OF_LIGHT_M_S
from radps_mpi.io.run_status import read_provenance
from radps_mpi.journey.plan import measured_runs, with_host
from radps_mpi.planning.fitting import MeasuredRun, fit_fixed, quickest
from radps_mpi.planning.machine_constants import Machine, read_machine
from radps_mpi.planning.model import FIRST, MAJOR, MINOR, PRODUCTS, STARTING, predict

pytestmark = pytest.mark.launches_mpi

WSU = ["--channels", 80_000, "--rows", 300_000, "--imsize", 2000, "--polarisations", 2, "--line-channels", 200,
       "--niter", 200_000, "--cores-per-node", 64, "--memory-per-node", "512GB"]  # fmt: skip


@pytest.fixture(autouse=True)
def no_machine_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's own calibration changes what the tests see."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def planned(args: list[object], ranks: int = 1) -> dict[str, Any]:
    """The plan as JSON."""
    result: dict[str, Any] = json.loads(jobs.succeed(["plan", *args, "--json"], ranks).stdout)
    return result


def test_cell_and_size_follow_from_the_longest_baseline_and_the_primary_beam(galaxy: Path, galaxy_store: Path) -> None:
    with h5py.File(galaxy_store) as store:
        group = store["observation_00000"]
        longest_m = float(np.hypot(group["uvw_m"][:, 0], group["uvw_m"][:, 1]).max())
        freq_hz = group["freq_hz"][...]
    beam_rad = SPEED_OF_LIGHT_M_S / (longest_m * freq_hz.max())
    for plan in (planned([galaxy]), planned([galaxy_store], ranks=2)):
        assert plan["cell_rad"][0] == pytest.approx(beam_rad / 5, rel=0.005)
        # VLA at 1.41 GHz: pb 0.2 is 0.37 deg from the axis (0.506 deg wide at half power, times 0.72)
        assert plan["imsize"][0] * plan["cell_rad"][0] / ARCSEC_RAD == pytest.approx(2 * 0.37 * 3600, rel=0.06)
        assert plan["visibilities_per_channel"] == pytest.approx(2 * 11_934, rel=0.001)
        assert plan["work"]["rows"] == 11_934 and plan["work"]["channels"] == 63


def test_a_plan_reads_no_visibilities(galaxy_store: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.vis.h5"
    shutil.copy(galaxy_store, copy)
    before = planned([copy])
    with h5py.File(copy) as store:
        vis = store["observation_00000"]["vis"]
        offset, nbytes = vis.id.get_offset(), vis.id.get_storage_size()
    with open(copy, "r+b") as file:
        file.seek(offset)
        file.write(bytes(nbytes))
    assert planned([copy])["best"] == before["best"]
    refused = jobs.run_radps(["image", copy, "--imagename", tmp_path / "cube", "--imsize", 64, "--cell", "30arcsec"])
    assert refused.returncode == 65  # an image would have found it


def test_a_wsu_sized_request_is_planned_without_files_in_little_time() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    plan = planned([*WSU, "--scaling", 4096])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert spent_s < 5.0  # processor time: other load on the machine is none of it
    assert plan["work"]["store_bytes"] == pytest.approx(80_000 * 300_000 * 2 * 8, rel=0.001)
    assert plan["work"]["state_bytes"] == 80_000 * 2000 * 2000 * 4 * 4
    assert [p["ranks"] for p in plan["strong_scaling"]] == [1 << k for k in range(13)]
    last = {part["name"]: part["limit"] for part in plan["strong_scaling"][-1]["parts"]}
    assert last[MAJOR] == "fewer blocks than ranks"
    assert last[MINOR] == "file system"  # planes are on other nodes than those that clean them


def test_the_documented_machine_gives_the_documented_table(tmp_path: Path) -> None:
    page = (jobs.REPOSITORY / "docs" / "planning.md").read_text(encoding="utf-8")
    (tmp_path / "wsu.toml").write_text(page.split("```toml\n")[1].split("```")[0])
    (command,) = [line for line in page.splitlines() if "--machine wsu.toml" in line]
    args = command.replace("wsu.toml", str(tmp_path / "wsu.toml")).split()[2:]
    predicted = {p["ranks"]: p["seconds"] for p in planned([*args])["strong_scaling"]}
    rows = re.findall(r"^\| ([\d,]+) ranks, \d+ nodes? \| ([\d.]+) (s|min)", page, re.MULTILINE)
    assert len(rows) == 4
    for ranks, value, unit in rows:
        assert predicted[int(ranks.replace(",", ""))] == pytest.approx(float(value) * {"s": 1, "min": 60}[unit], rel=0.02)


def test_the_table_names_guesses_and_that_the_machine_was_not_measured(tmp_path: Path) -> None:
    shown = jobs.succeed(["plan", *WSU, "--plot", tmp_path / "scaling.png"]).stdout
    assert "built-in constants, not measured here" in shown
    assert "a guess: 3 major cycles" in shown
    assert "minor cycles by block, not by channel" in shown
    assert (tmp_path / "scaling.png").read_bytes().startswith(b"\x89PNG")


REFUSALS: list[tuple[list[str], int, str]] = [
    (["plan"], 64, "no inputs"),
    (["plan", "--channels", "8"], 64, "needs --channels and --rows"),
    (["plan", "--channels", "1000000000000", "--rows", "9"], 64, "--channels: 1000000000000 is outside the allowed range"),
    (["plan", "--channels", "8", "--rows", "0"], 64, "--rows: 0 is outside the allowed range"),
    (["plan", "--channels", "8", "--rows", "9", "--threads", "65", "--cores-per-node", "64"], 64, "more than the 64 cores"),
    (["plan", "--channels", "8", "--rows", "9", "--polarisations", "3"], 64, "--polarisations: 3 is not a set"),
    (["plan", "--channels", "8", "--rows", "9", "--telescope", "VLBA"], 64, "--telescope: 'VLBA' is not one of"),
    (["plan", "--channels", "8", "--rows", "9", "--max-baseline", "3parsecs"], 64, "--max-baseline"),
    (["plan", "--channels", "8", "--rows", "9", "--niter", "5", "--line-channels", "9"], 64,
     "--line-channels: 9 is outside 1 to 8"),
    (["plan", "--channels", "8", "--rows", "9", "--machine", "none.toml"], 64, "machine file none.toml"),
    (["plan", "--channels", "8", "--rows", "9", "--measured", "none.radps"], 64, "none.radps: no such run directory"),
    (["plan", "--channels", "8", "--rows", "9", "--plot", "a.nothing"], 64, "--plot: a.nothing"),
    (["plan", "--channels", "8", "--rows", "9", "--plot", "/nowhere/a.png"], 74, "/nowhere/a.png"),
    (["plan", "x.ms", "--channels", "8"], 64, "--channels is for a plan without inputs"),
    (["plan", "none.ms"], 65, "none.ms"),
]  # fmt: skip


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What a job of one rank made of the REFUSALS, one after the other."""
    folder = tmp_path_factory.mktemp("refused")
    (folder / "work.json").write_text(json.dumps([args for args, _, _ in REFUSALS]))
    own = {"XDG_CONFIG_HOME": str(folder / "config")}
    done = jobs.run_script("commands_job.py", [folder / "work.json", folder], ranks=1, env=own)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in (folder / "rank0.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(("number", "status", "message"), [(n, *case[1:]) for n, case in enumerate(REFUSALS)])
def test_what_cannot_be_planned_is_refused_in_one_line(
    refused: list[dict[str, Any]], number: int, status: int, message: str
) -> None:
    (line,) = [line for line in refused[number]["stderr"].splitlines() if line.startswith("radps: error:")]
    assert refused[number]["status"] == status and message in line


def test_a_plan_that_is_refused_ends_the_job_with_its_status() -> None:
    refused = jobs.run_radps(["plan", "--channels", "8"], ranks=2)
    (line,) = jobs.error_lines(refused)
    assert refused.returncode == 64 and "needs --channels and --rows" in line


def test_a_finished_run_keeps_what_it_took_and_the_next_plan_uses_it(galaxy_store: Path, tmp_path: Path) -> None:
    parameters = ["--imagename", tmp_path / "cube", "--imsize", 128, "--cell", "15arcsec", "--niter", 500]
    before = planned([galaxy_store, *parameters])
    assert before["learned_from"] == []
    jobs.succeed(["image", galaxy_store, *parameters], ranks=2)
    (entry,) = [e["measured"] for e in read_provenance(tmp_path / "cube.radps") if e["event"] == "finished"]
    assert entry["ranks"] == 2
    assert {STARTING, FIRST, MINOR, MAJOR, PRODUCTS} <= entry["seconds"].keys()
    assert entry["peak_memory_bytes"] > 50e6
    assert entry["work"]["iterations"] >= 500
    for plan in (planned([galaxy_store, *parameters]),
                 planned([galaxy_store, *parameters[2:], "--measured", tmp_path / "cube.radps"])):  # fmt: skip
        assert len(plan["learned_from"]) == 1
        assert plan["work"]["line_channels"] == entry["work"]["line_channels"]
        assert plan["work"]["iterations"] == entry["work"]["iterations"], "as many as it took, niter or more"
        assert plan["corrections"]["seconds"].keys() & {FIRST, PRODUCTS}
    (tmp_path / "other.toml").write_text('machine_version = 3\nprocessor = "Another @ 1 GHz"\n')
    elsewhere = planned([galaxy_store, *parameters, "--machine", tmp_path / "other.toml"])
    assert elsewhere["corrections"]["seconds"] == {} and elsewhere["corrections"]["memory"] == plan["corrections"]["memory"]
    assert any("times measured on another processor" in note for note in elsewhere["notes"])
    other = tmp_path / "empty.radps"
    other.mkdir()
    refused = jobs.run_radps(["plan", galaxy_store, "--measured", other])
    assert refused.returncode == 65 and "holds no measured run" in jobs.error_lines(refused)[0]


# Predicted against measured memory -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """The built-in constants with this machine's memory of an idle rank, as a calibration finds it."""
    folder = tmp_path_factory.mktemp("idle")
    small = ["--nchan", 8, "--nantenna", 8, "--nintegration", 3]
    jobs.succeed(["simulate", "-o", folder / "tiny.vis.h5", "--ms", folder / "tiny.ms", "--noise", "50mJy", *small])
    runs = [measured(folder / "idle", [folder / name, "--imsize", 64, "--cell", "0.2arcsec", "--niter", 10])
            for name in ("tiny.vis.h5", "tiny.ms")]  # fmt: skip
    return fit_fixed(Machine(cores_per_node=2, memory_per_node_bytes=8 * 10**9), *runs)


def measured(imagename: Path, args: list[object], ranks: int = 1, times: int = 2) -> MeasuredRun:
    """An image, and what it took: the last of ``times``, since a first one may have to compile kernels, which takes 170 MB."""
    for _ in range(times):
        jobs.succeed(
            ["image", *args, "--imagename", imagename, "--memory-per-rank", f"{8000 // ranks}MB", "--overwrite"], ranks
        )
    return measured_runs(Path(f"{imagename}.radps"))[-1]


@pytest.mark.parametrize(("name", "parameters", "ranks"), [
    ("ngc5921_src_contsub.ms", ["--imsize", 1024, "--cell", "8arcsec", "--nchan", 16, "--niter", 200, "--nmajor", 1], 1),
    ("ngc5921_src_contsub.ms", ["--imsize", 512, "--cell", "8arcsec", "--weighting", "briggs"], 2),
    ("FREQ78.ms", ["--imsize", 1024, "--cell", "0.06arcsec", "--weighting", "briggs", "--niter", 100, "--nmajor", 1], 1),
    ("dmtau_co21.ms", ["--imsize", 1024, "--cell", "0.2arcsec", "--pb-model", "none", "--pblimit", -1e-9], 1),
])  # fmt: skip
def test_predicted_memory_is_within_15_percent_of_the_measured(
    dataset: Callable[[str], Path], machine: Machine, tmp_path: Path, name: str, parameters: list[object], ranks: int
) -> None:
    args = [dataset(name), *parameters, "--products", "image"]
    run = measured(tmp_path / "cube", args, ranks, times=1)
    predicted = predict(run.work, machine, run.layout).memory
    if predicted.peak_bytes != pytest.approx(run.peak_memory_bytes, rel=0.15):  # it may have had to compile kernels
        run = measured(tmp_path / "cube", args, ranks, times=1)
    assert predicted.peak_bytes == pytest.approx(run.peak_memory_bytes, rel=0.15), predicted.parts_bytes


# Predicted against measured time -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """This machine, as ``radps plan --calibrate`` finds it."""
    path = tmp_path_factory.mktemp("calibrated") / "machine.toml"
    jobs.succeed(["plan", "--calibrate", "--machine", path], timeout=300)
    return with_host(read_machine(path))


@pytest.mark.idle_machine
@pytest.mark.timeout(900)
@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize(("name", "parameters"), [
    ("ngc5921_src_contsub.ms", ["--imsize", 512, "--cell", "15arcsec", "--weighting", "briggs", "--niter", 6000]),
    ("FREQ78.ms", ["--imsize", 512, "--cell", "0.06arcsec", "--weighting", "briggs", "--niter", 1000]),
    ("dmtau_co21.ms", ["--imsize", 512, "--cell", "0.3arcsec", "--niter", 2000, "--pb-model", "none", "--pblimit", -1e-9]),
])  # fmt: skip
def test_predicted_time_is_within_30_percent_of_the_measured(
    dataset: Callable[[str], Path], calibrated: Machine, tmp_path: Path, name: str, parameters: list[object], ranks: int
) -> None:
    job = ["image", dataset(name), *parameters, "--imagename", tmp_path / "cube", "--overwrite"]
    for _ in range(4):
        jobs.succeed(job, ranks)
    run = quickest(measured_runs(tmp_path / "cube.radps")[-3:])  # the first may have compiled kernels
    predicted = predict(run.work, calibrated, run.layout)
    parts_s = {part.name: (part.seconds, run.seconds.get(part.name, 0.0)) for part in predicted.parts}
    assert predicted.seconds == pytest.approx(sum(spent_s for _, spent_s in parts_s.values()), rel=0.30), parts_s
