"""Bad input: one clear line from rank 0 that names what is wrong, exit status 64 or 65 on every rank, no waiting."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support import jobs

pytestmark = pytest.mark.launches_mpi

SMALL = ["--imsize", "64", "--cell", "30arcsec"]


@dataclass(frozen=True)
class Bad:
    """A command that must be refused. ``{galaxy}``, ``{store}``, ... in arguments stand for paths."""

    name: str
    arguments: list[str]
    status: int
    says: tuple[str, ...]


def image(name: str, status: int, says: tuple[str, ...], *arguments: str, source: str = "{store}") -> Bad:
    return Bad(name, ["image", source, "--imagename", "{scratch}/" + name.replace(" ", "_"), *arguments], status, says)


TABLE = [
    image("missing input", 65, ("nowhere.ms", "no such"), *SMALL, source="{scratch}/nowhere.ms"),
    image("missing store", 65, ("nowhere.vis.h5",), *SMALL, source="{scratch}/nowhere.vis.h5"),
    image("not a MeasurementSet", 65, ("{scratch}", "not a casacore table"), *SMALL, source="{scratch}"),
    image("a table that is no MeasurementSet", 65, ("ANTENNA",), *SMALL, source="{galaxy}/ANTENNA"),
    image("not a store", 65, ("text.vis.h5",), *SMALL, source="{scratch}/text.vis.h5"),
    image("unknown option", 64, ("'--thresold'", "did you mean 'threshold'"), *SMALL, "--thresold", "8mJy"),
    image("unknown unit", 64, ("--threshold", "'mJz'", "did you mean 'mJy'"), *SMALL, "--threshold", "8mJz"),
    image("unit of another kind", 64, ("--cell", "GHz"), "--imsize", "64", "--cell", "30GHz"),
    image("no cell", 64, ("--cell is missing",), "--imsize", "64"),
    image("no size", 64, ("--imsize is missing",), "--cell", "30arcsec"),
    image("no input", 64, ("no inputs",), *SMALL, source="--dry-run"),
    image("image too small", 64, ("--imsize", "16"), "--imsize", "8", "--cell", "30arcsec"),
    image("unknown weighting", 64, ("--weighting", "did you mean 'briggs'"), *SMALL, "--weighting", "brigs"),
    image("no such field", 64, ("field", "'7'", "ids are 0 to 0"), *SMALL, "--field", "7", source="{galaxy}"),
    image("no such window", 64, ("spw", "'3'"), *SMALL, "--spw", "3", source="{galaxy}"),
    image("selection on a store", 64, ("field", "radps ingest"), *SMALL, "--field", "0"),
    image("no column", 65, ("CORRECTED_DATA",), *SMALL, "--datacolumn", "corrected", source="{galaxy}"),
    image("axis beyond the data", 64, ("start", "1412.665074", "LSRK"), *SMALL, "--start", "9GHz"),
    image("REST frame", 64, ("--outframe", "'REST'", "not supported"), *SMALL, "--outframe", "REST"),
    image("GALACTO frame", 64, ("--outframe", "'GALACTO'", "not supported"), *SMALL, "--outframe", "GALACTO"),
    image("mask that can't be read", 64, ("mask", "circle[[128pix"), *SMALL, "--niter", "9", "--mask", "circle[[128pix"),
    image("missing mask image", 65, ("mask", "nowhere.fits"), *SMALL, "--niter", "9", "--mask", "{scratch}/nowhere.fits"),
    image("phase centre that isn't there", 64, ("phasecenter", "5"), *SMALL, "--phasecenter", "5"),
    image("centre behind the field", 64, ("phasecenter", "other half"), *SMALL, "--phasecenter", "J2000 3h22m00 -5d04m00"),
    image("centre beyond the beam", 64, ("phasecenter", "pblimit"), *SMALL, "--phasecenter", "J2000 15h32m00 5d04m00"),
    image("contradiction", 64, ("--start", "mfs"), *SMALL, "--specmode", "mfs", "--start", "5"),
    image("several pointings", 65, ("7 pointings", "mosaic"), "--imsize", "64", "--cell", "0.3arcsec", source="{mosaic}"),
    image("wide field", 65, ("w-term", "--wterm ignore"), "--imsize", "512", "--cell", "45arcsec", "--pb-model", "none",
          source="{wide}"),
    Bad("missing configuration", ["image", "--config", "{scratch}/nowhere.toml"], 64, ("nowhere.toml",)),
    Bad("bad configuration", ["image", "--config", "{scratch}/bad.toml"], 64, ("bad.toml", "did you mean 'threshold'")),
    Bad("unknown command", ["imge"], 64, ("'imge'", "did you mean 'image'")),
    Bad("nothing to resume", ["resume", "{scratch}/nothing"], 65, ("nothing", "no run to resume")),
    Bad("resume with another cell", ["resume", "{scratch}/nothing", "--cell", "5arcsec"], 64, ("--cell can't change",)),
    Bad("nothing to verify", ["verify", "{scratch}/nothing"], 65, ("nothing",)),
    Bad("ingest onto a file", ["ingest", "{galaxy}", "-o", "{scratch}/text.vis.h5"], 64, ("exists", "--overwrite")),
    Bad("ingest to another kind of file", ["ingest", "{galaxy}", "-o", "{scratch}/notes.txt"], 64, ("notes.txt", ".vis.h5")),
    image("width of more channels than there are", 64, ("width of 100 channels",), *SMALL, "--width", "100"),
    Bad("no output of ingest", ["ingest", "{galaxy}"], 64, ("output",)),
]  # fmt: skip


@pytest.fixture(scope="module", params=[1, 3])
def outcomes(
    request: pytest.FixtureRequest, galaxy: Path, galaxy_store: Path, dataset: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, list[dict[str, Any]]]:  # fmt: skip
    """Name of a bad command -> what each rank made of it."""
    scratch, reports = tmp_path_factory.mktemp("refused"), tmp_path_factory.mktemp("reports")
    paths = {
        "{scratch}": scratch, "{galaxy}": galaxy, "{store}": galaxy_store, "{wide}": dataset("1102865728_small.ms"),
        "{mosaic}": dataset("sim_alma_b6_mosaic_exact_noisy.ms"),
    }  # fmt: skip
    (scratch / "text.vis.h5").write_text("not HDF5 at all\n" * 100)
    (scratch / "bad.toml").write_text("imsize = 64\nthreshhold = '8mJy'\n")
    work = [[filled(argument, paths) for argument in bad.arguments] for bad in TABLE]
    (reports / "work.json").write_text(json.dumps(work))
    done = jobs.run_script("commands_job.py", [reports / "work.json", reports], request.param, timeout=150)
    of_ranks = [
        [json.loads(line) for line in (reports / f"rank{rank}.jsonl").read_text().splitlines()]
        for rank in range(request.param)
    ]
    assert done.returncode == 0, f"stopped after {[len(lines) for lines in of_ranks]} of {len(TABLE)}: {done.stderr}"
    assert not list(scratch.glob("*.fits")), "a refused run must not write products"
    assert not list(scratch.glob("nothing*")), "to ask for a run that isn't there must not make one"
    return {bad.name: [lines[at] for lines in of_ranks] for at, bad in enumerate(TABLE)}


def filled(text: str, paths: dict[str, Path]) -> str:
    for name, path in paths.items():
        text = text.replace(name, str(path))
    return text


@pytest.mark.parametrize("bad", TABLE, ids=lambda bad: bad.name)
@pytest.mark.fault(
    "data", "a command that can't be meant: unknown option, unit, field, frame, mask, other cell on resume, ...",
    "status 64 or 65 on every rank, one line from rank 0, nothing written",
)  # fmt: skip
def test_bad_input_is_one_line_on_rank_0_and_one_status_on_all(outcomes: dict[str, Any], bad: Bad) -> None:
    of_ranks = outcomes[bad.name]
    assert [outcome["status"] for outcome in of_ranks] == [bad.status] * len(of_ranks), of_ranks[0]["stderr"]
    lines = [[line for line in outcome["stderr"].splitlines() if "error:" in line.lower()] for outcome in of_ranks]
    assert all(not rest for rest in lines[1:]), lines
    (line,) = lines[0]
    assert line.startswith("radps: error: ")
    for word in bad.says:
        assert word == "{scratch}" or word in line, line


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["image", "/nowhere.ms", "--imagename", "a", *SMALL], 65, "/nowhere.ms"),
        (["image", "/nowhere.ms", "--imagename", "a", *SMALL, "--thresold", "1"], 64, "did you mean 'threshold'"),
        (["image", "/nowhere.ms", "--imagename", "a", "--imsize", "64", "--cell", "1GHz"], 64, "--cell"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.fault(
    "data", "a missing set, an unknown option or a wrong unit under mpirun",
    "the job's status is 64 or 65, one line",
)  # fmt: skip
def test_the_whole_job_ends_with_the_status_and_one_line(
    tmp_path: Path, arguments: list[str], status: int, says: str, ranks: int
) -> None:
    arguments = [str(tmp_path / "a") if argument == "a" else argument for argument in arguments]
    done = jobs.run_radps(arguments, ranks, timeout=30)
    assert done.returncode == status
    (line,) = jobs.error_lines(done)
    assert says in line and "Traceback" not in done.stderr and done.stdout == ""


@pytest.mark.fault("data", "a field that moves (ephemeris)", "status 65, one line naming it")
def test_an_ephemeris_field_is_refused_by_name(galaxy: Path, tmp_path: Path) -> None:
    from casacore.tables import makescacoldesc, maketabdesc, table

    moving = tmp_path / "moving.ms"
    shutil.copytree(galaxy, moving)
    with table(f"{moving}/FIELD", readonly=False, ack=False) as field:
        field.addcols(maketabdesc([makescacoldesc("EPHEMERIS_ID", 0)]))
        field.putcol("EPHEMERIS_ID", [0])
    done = jobs.run_radps(["image", moving, "--imagename", tmp_path / "a", *SMALL], ranks=2)
    (line,) = jobs.error_lines(done)
    assert done.returncode == 65 and "N5921_2" in line and "ephemeris" in line


@pytest.mark.fault("data", "dishes of two sizes", "status 65, one line naming them")
def test_dishes_of_two_sizes_are_refused_by_name(galaxy: Path, tmp_path: Path) -> None:
    from casacore.tables import table

    mixed = tmp_path / "mixed.ms"
    shutil.copytree(galaxy, mixed)
    with table(f"{mixed}/ANTENNA", readonly=False, ack=False) as antennas:
        diameters = antennas.getcol("DISH_DIAMETER")
        diameters[:5] = 12.0
        antennas.putcol("DISH_DIAMETER", diameters)
    done = jobs.run_radps(["image", mixed, "--imagename", tmp_path / "a", *SMALL], ranks=1)
    (line,) = jobs.error_lines(done)
    assert done.returncode == 65 and "12" in line and "25" in line
