"""Command lines: how they are read, where they lead, and how a run that fails ends."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import radps_mpi
from radps_mpi import cli
from radps_mpi.__main__ import main
from radps_mpi.cli_parser import Option, attach_values
from radps_mpi.errors import DataError, UsageError
from radps_mpi.launcher import launcher_rank

REPOSITORY = Path(__file__).resolve().parents[1]
IMAGE = ["image", "a.ms", "--imagename", "runs/a", "--imsize", "64", "--cell", "15arcsec"]


# Reading the arguments -----------------------------------------------------------------------------------------------

OPTIONS = {o.name: o for o in (Option("--spw", 99, "windows"), Option("--width", 1, "width"), Option("-o", 1, "output"),
                               Option("--pb-model", 1, "beam"), Option("--pbcor", 0, "correct"))}


def test_values_are_tied_to_their_options_and_inputs_come_last() -> None:
    assert attach_values(["a.ms", "--width", "2", "b.ms"], OPTIONS) == ["--width=2", "--", "a.ms", "b.ms"]
    assert attach_values(["--pbcor", "a.ms"], OPTIONS) == ["--pbcor", "--", "a.ms"]
    assert attach_values(["-o", "x.h5", "a.ms"], OPTIONS) == ["-ox.h5", "--", "a.ms"]


@pytest.mark.parametrize("value", ["-5km/s", "-.5", "-1e-3", "-2", "", "circle[[1pix,1pix],2pix]", "a=b"])
def test_a_value_may_look_like_an_option_if_a_digit_follows_the_dash(value: str) -> None:
    assert attach_values(["--width", value], OPTIONS) == [f"--width={value}"]
    assert attach_values([f"--width={value}"], OPTIONS) == [f"--width={value}"]


def test_an_option_of_several_values_does_not_swallow_the_inputs() -> None:
    assert attach_values(["--spw", "0", "1:5~50", "a.ms", "b.MS/"], OPTIONS) == [
        "--spw=0", "--spw=1:5~50", "--", "a.ms", "b.MS/"]
    assert attach_values(["--spw", "0", "x.vis.h5"], OPTIONS) == ["--spw=0", "--", "x.vis.h5"]
    assert attach_values(["--spw", "0", "--", "odd-name"], OPTIONS) == ["--spw=0", "--", "odd-name"]


def test_a_measurement_set_of_any_name_is_known_by_its_table(tmp_path: Path) -> None:
    (tmp_path / "table.dat").touch()
    assert attach_values(["--spw", "0", str(tmp_path)], OPTIONS) == ["--spw=0", "--", str(tmp_path)]


def test_underscores_in_options_count_as_dashes() -> None:
    assert attach_values(["--pb_model", "airy"], OPTIONS) == ["--pb-model=airy"]


@pytest.mark.parametrize(("arguments", "message"), [
    (["--spv", "0"], "unknown option '--spv' (did you mean 'spw'?)"),
    (["-x"], "unknown option '-x'"),
    (["--width"], "--width needs a value: width"),
    (["--width", "--pbcor"], "--width needs a value"),
    (["--pbcor=yes"], "--pbcor takes no value"),
])
def test_options_that_cannot_be_meant_are_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        attach_values(arguments, OPTIONS)
    assert message in str(caught.value)


@pytest.mark.parametrize(("arguments", "message"), [
    ([], "no command: one of image, ingest, resume, status, hash, verify, doctor"),
    (["imge"], "unknown command 'imge' (did you mean 'image'?)"),
    (["image", "--nitre", "5"], "unknown option '--nitre' (did you mean 'niter'?)"),
    (["image", "--nit", "5"], "unknown option '--nit'"),
    (["status"], "IMAGENAME"),
    (["status", "a", "b"], "b"),
    (["ingest", "a.ms"], "-o/--output"),
    (["resume", "runs/a", "--cell", "1arcsec"], "--cell can't change on resume; these can: --keep-state"),
])
def test_command_lines_that_cannot_be_meant_are_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        cli.parse(arguments)
    assert message in str(caught.value)


# Where commands lead -------------------------------------------------------------------------------------------------

Calls = list[tuple[str, tuple[Any, ...], dict[str, Any]]]


@pytest.fixture
def replaced(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, Any], Calls]:
    """``replaced(module, function, result)``: put a recorder in the place of a journey; gives the list of its calls."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # main() installs its own

    def replace(module: str, function: str, result: Any = None) -> Calls:
        calls: Calls = []

        def record(*args: Any, **keywords: Any) -> Any:
            calls.append((function, args, keywords))
            return result

        fake = sys.modules.get(module)
        if not hasattr(fake, "is_fake"):
            fake = types.ModuleType(module)
            fake.is_fake = True  # type: ignore[attr-defined]
            monkeypatch.setitem(sys.modules, module, fake)
            parent, _, name = module.rpartition(".")
            monkeypatch.setattr(importlib.import_module(parent), name, fake, raising=False)
        setattr(fake, function, record)
        return calls

    return replace


def test_image_hands_configuration_inputs_and_communicator_to_make_cube(replaced: Any) -> None:
    calls = replaced("radps_mpi.pipeline", "make_cube")
    assert main([*IMAGE, "b.ms", "--spw", "0", "1:5~50", "--pblimit", "-0.2", "--robust", "-2", "--start", "1400km/s",
                 "--width", "-5km/s", "--pbcor", "--mask", "circle[[128pix,128pix],80pix]", "--phasecenter",
                 "J2000 10h00m00 -30d00m00", "--products", "image", "psf", "--keep-state"]) == 0
    [(_, (config, inputs, comm), keywords)] = calls
    flat = config.flat()
    expected = {"vis": ("a.ms", "b.ms"), "imsize": (64, 64), "cell": ("15arcsec", "15arcsec"), "spw": ("0", "1:5~50"),
                "pblimit": -0.2, "robust": -2.0, "start": "1400km/s", "width": "-5km/s", "pbcor": True,
                "mask": ("circle[[128pix,128pix],80pix]",), "phasecenter": "J2000 10h00m00 -30d00m00",
                "products": ("image", "psf"), "keep_state": True, "imagename": "runs/a"}
    assert {name: flat[name] for name in expected} == expected
    assert inputs == ["a.ms", "b.ms"]
    assert comm.size == 1
    assert keywords == {}


def test_flags_win_over_the_file_and_the_file_over_defaults(replaced: Any, tmp_path: Path) -> None:
    calls = replaced("radps_mpi.pipeline", "make_cube")
    run = tmp_path / "run.toml"
    run.write_text('vis = ["a.ms"]\nimagename = "x"\nimsize = 64\ncell = "15arcsec"\nniter = 100\npbcor = true\n')
    assert main(["image", "--config", str(run), "--niter", "7", "--no-pbcor"]) == 0
    assert main(["image", "other.ms", "--config", str(run)]) == 0
    first, second = (args[0] for _, args, _ in calls)
    assert (first.deconvolution.niter, first.image.pbcor, first.selection.vis) == (7, False, ("a.ms",))
    assert (second.deconvolution.niter, second.image.pbcor, second.selection.vis) == (100, True, ("other.ms",))


def test_a_wrong_value_is_blamed_on_the_flag_or_the_file_that_it_came_from(
        replaced: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calls = replaced("radps_mpi.pipeline", "make_cube")
    run = tmp_path / "run.toml"
    run.write_text("gain = 3\n")
    assert main([*IMAGE, "--config", str(run)]) == 64
    assert capsys.readouterr().err == f"radps: error: {run}: gain: 3 is outside the allowed range: above 0, at most 1\n"
    assert main([*IMAGE, "--config", str(run), "--gain", "4"]) == 64
    assert capsys.readouterr().err == "radps: error: --gain: 4 is outside the allowed range: above 0, at most 1\n"
    assert main([*IMAGE[:2], "--cell", "1arcsec", "--imsize", "64"]) == 64
    assert capsys.readouterr().err.startswith("radps: error: --imagename is missing")
    assert main(["image", *IMAGE[2:]]) == 64
    assert capsys.readouterr().err.startswith("radps: error: no inputs")
    assert calls == []


def test_a_dry_run_prints_the_parameters_and_the_plan_and_images_nothing(
        replaced: Any, capsys: pytest.CaptureFixture[str]) -> None:
    made = replaced("radps_mpi.pipeline", "make_cube")
    planned = replaced("radps_mpi.pipeline", "dry_run", types.SimpleNamespace(text="the plan", lacking=""))
    assert main([*IMAGE, "--dry-run", "--threshold", "8mJy"]) == 0
    out = capsys.readouterr().out
    assert 'threshold = "8mJy"\n' in out
    assert out.endswith("\nthe plan\n")
    assert (len(made), len(planned)) == (0, 1)


def test_a_dry_run_has_nothing_to_commit_when_a_signal_ends_it() -> None:
    assert cli.parse(IMAGE).stops_in_time and not cli.parse([*IMAGE, "--dry-run"]).stops_in_time


def test_resume_passes_on_what_is_given_and_nothing_else(replaced: Any) -> None:
    calls = replaced("radps_mpi.pipeline", "resume")
    assert main(["resume", "runs/a"]) == 0
    assert main(["resume", "runs/a", "--niter", "500", "--mask", "a", "b", "--break-lock"]) == 0
    (_, plain, none), (_, changed, override) = calls
    assert (plain[0], plain[2], none) == ("runs/a", {}, {})
    assert (changed[2], override) == ({"niter": "500", "mask": ["a", "b"]}, {"break_lock": True})


def test_ingest_hands_over_a_checked_selection_for_each_input(
        replaced: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from radps_mpi.io.selection import Selection

    calls = replaced("radps_mpi.io.ingest", "ingest", ["an observation"])
    replaced("radps_mpi.io.ingest", "report_lines", ["one line", "another"])
    assert main(["ingest", "a.ms", "b.ms", "-o", "ab.vis.h5", "--field", "0", "1", "--datacolumn", "data"]) == 0
    [(_, (comm, sources, selections, path), _)] = calls
    assert (comm.size, sources, path) == (1, ["a.ms", "b.ms"], "ab.vis.h5")
    assert selections == [Selection(field="0", datacolumn="data"), Selection(field="1", datacolumn="data")]
    assert capsys.readouterr().out == "one line\nanother\n"
    assert main(["ingest", "a.ms", "-o", "a.vis.h5", "--datacolumn", "dta"]) == 64
    assert "--datacolumn: 'dta' is not one of" in capsys.readouterr().err
    assert len(calls) == 1


def test_make_cube_takes_the_same_names_as_the_command(replaced: Any) -> None:
    calls = replaced("radps_mpi.pipeline", "make_cube", "made")
    comm: Any = object()
    made = radps_mpi.make_cube("a.ms", imagename=Path("runs/a"), comm=comm, imsize=64, cell=15, threshold="8mJy")
    assert made == "made"
    [(_, (config, inputs, given), _)] = calls
    assert (config.output.imagename, config.deconvolution.threshold, inputs) == ("runs/a", "8mJy", ["a.ms"])
    assert given is comm
    with pytest.raises(UsageError, match="did you mean 'niter'"):
        radps_mpi.make_cube(["a.ms"], imagename="a", imsize=64, cell="15arcsec", nitre=5)


def test_doctor_reports_on_the_whole_job_and_leaves_with_its_verdict(replaced: Any) -> None:
    diagnosed = replaced("radps_mpi.doctor", "diagnose", ["a finding"])
    reported = replaced("radps_mpi.doctor", "report", 1)
    assert main(["doctor"]) == 1
    assert [args[0].size for _, args, _ in diagnosed] == [1]
    assert [args for _, args, _ in reported] == [(["a finding"],)]


def test_hash_prints_a_line_for_each_product_that_is_there(
        replaced: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calls = replaced("radps_mpi.io.product_hash", "hash_product", types.SimpleNamespace(line="digest"))
    for name in ("a.psf.fits", "a.image.fits", "a.other.fits", "a.b.image.fits"):
        (tmp_path / name).touch()
    assert main(["hash", str(tmp_path / "a")]) == 0
    assert [Path(args[0]).name for _, args, _ in calls] == ["a.image.fits", "a.psf.fits"]
    assert capsys.readouterr().out == "digest\ndigest\n"
    assert main(["hash", str(tmp_path / "none")]) == 65
    assert "no products" in capsys.readouterr().err


@pytest.mark.parametrize(("damage", "status", "verdict"), [
    (False, 0, "no damage"), (True, 65, "damage in 1 place")])
def test_verify_looks_at_the_state_and_the_stores_and_leaves_with_65_if_one_is_damaged(
        replaced: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path, damage: bool, status: int,
        verdict: str) -> None:
    from radps_mpi.io.verification import Finding

    state = replaced("radps_mpi.io.verification", "verify", [Finding(False, "an older mask", 3)])
    replaced("radps_mpi.io.store_verification", "stores_of_run", ["a.vis.h5"])
    store = replaced("radps_mpi.io.store_verification", "verify_store", [Finding(True, "chunk 2")] if damage else [])
    name = str(tmp_path / "a")
    (tmp_path / "a.radps").mkdir()
    (tmp_path / "a.radps" / "manifest").touch()  # a state is there; what is found in it is replaced
    assert main(["verify", name]) == status
    assert [args[1] for _, args, _ in state] == [Path(name + ".radps")]
    assert [args[1] for _, args, _ in store] == ["a.vis.h5"]
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["note: channel 3: an older mask", *(["damage: chunk 2"] * damage), f"{name}, a.vis.h5: {verdict}"]
    assert main(["verify", "b.vis.h5"]) == status
    assert (len(state), store[-1][1][1]) == (1, "b.vis.h5")


def test_status_says_what_runs_how_far_it_is_and_who_runs_it() -> None:
    from radps_mpi.io.run_status import Status, StatusReport

    status = Status("minor cycle", cycle=2, done=12, total=46, eta_s=750.0, peak_jy=0.012, iterations=1325, ranks=4,
                    updated="2030-01-01T00:00:00+00:00")
    assert cli.format_status("runs/a", StatusReport(status, False, None)).splitlines() == [
        "runs/a: not running",
        "  minor cycle: 12 of 46, major cycle 2, 12 min 30 s to go",
        "  peak residual 12 mJy/beam, 1325 iterations",
        "  4 ranks, 2030-01-01T00:00:00+00:00",
    ]
    assert cli.format_status("runs/a", StatusReport(None, None, None)).endswith("nothing done yet")


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    import tomllib

    declared = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"radps {declared}\n"


def test_help_shows_every_parameter_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    from radps_mpi import config

    assert main(["image", "a.ms", "--niter", "--help"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    missing = [n for n in config.parameters() if n != "vis" and f"--{n.replace('_', '-')}" not in out]
    assert missing == []
    for text in ("[default: LSRK]", "[default: 0.2; above -1, below 1]", "natural|uniform|briggs|briggsbwtaper",
                 "[required]"):
        assert text in out


@pytest.mark.parametrize("command", ["image", "ingest", "resume", "status", "hash", "verify", "doctor", "simulate"])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "-h"]) == 0
    assert f"usage: radps {command}" in capsys.readouterr().out
    assert main(["--help"]) == 0
    assert f"  {command} " in capsys.readouterr().out


# How a run that fails ends -------------------------------------------------------------------------------------------

def test_an_error_of_the_journey_is_one_line_and_its_own_exit_status(
        replaced: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    replaced("radps_mpi.pipeline", "make_cube")

    def fail(*_: Any) -> None:
        raise DataError("a.ms: no column DATA\nin it")

    monkeypatch.setattr(sys.modules["radps_mpi.pipeline"], "make_cube", fail)
    assert main(IMAGE) == 65
    assert capsys.readouterr().err == "radps: error: a.ms: no column DATA in it\n"


@pytest.mark.fault("time", "an interrupt from the keyboard", "one line, status 130")
def test_an_interrupt_ends_with_the_shell_s_status(
        replaced: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    replaced("radps_mpi.pipeline", "make_cube")

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["radps_mpi.pipeline"], "make_cube", interrupt)
    assert main(IMAGE) == 130
    assert capsys.readouterr().err == "radps: error: interrupted\n"


def test_the_launcher_s_rank_is_known_before_mpi_starts(
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    assert launcher_rank() == 0
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("PMI_RANK", "3")
    assert launcher_rank() == 3
    assert main(["imge"]) == 64
    assert main(["--help"]) == 0
    assert main(["status", "nothing-here"]) == 0
    assert capsys.readouterr() == ("", "")


def environment() -> dict[str, str]:
    """That of a shell in which mpirun works, also for root in a container and with few cores."""
    inherited = {n: v for n, v in os.environ.items() if not n.startswith(("OMPI_COMM", "PMI", "SLURM", "MPI4PY"))}
    return {**inherited, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
            "OMPI_MCA_rmaps_base_oversubscribe": "1", "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'kernels'}"}


def run(*command: str, **details: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, **details)


PLAIN = [sys.executable, "-c", "import sys; from radps_mpi.__main__ import main; sys.exit(main())"]
MODULE = [sys.executable, "-m", "radps_mpi"]
MPI4PY = [sys.executable, "-m", "mpi4py", "-m", "radps_mpi"]


@pytest.mark.parametrize("program", [PLAIN, MODULE, MPI4PY], ids=["radps", "python -m", "python -m mpi4py"])
def test_usage_errors_leave_with_64_and_one_line_however_the_program_is_started(program: list[str]) -> None:
    done = run(*program, "image", "--imsze", "5")
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr == "radps: error: unknown option '--imsze' (did you mean 'imsize'?)\n"


def test_help_and_version_load_neither_mpi_nor_numpy() -> None:
    program = ("import sys; from radps_mpi.__main__ import main; main(['--help']); main(['image', '--help']); "
               "main(['--version']); sys.exit(bool({'mpi4py', 'numpy', 'numba', 'astropy'} & set(sys.modules)))")
    assert run(sys.executable, "-c", program).returncode == 0


def test_status_and_hash_do_not_start_mpi(tmp_path: Path) -> None:
    program = ("import sys; from radps_mpi.__main__ import main; main(['status', 'x']); main(['hash', 'x']); "
               "mpi = sys.modules.get('mpi4py.MPI'); sys.exit(mpi is not None and mpi.Is_initialized())")
    done = run(sys.executable, "-c", program, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_reader_that_goes_away_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*MODULE, "image", "--help"], env=environment(), stdout=write, stderr=subprocess.PIPE,
                          text=True, timeout=60, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


FAILED = ["status", "no-such-run"]


@pytest.mark.parametrize(
    ("command", "end", "status"),
    [(FAILED, "2>&-", 65), (FAILED, "2>/dev/full", 65), (["--version"], ">&-", 0), (["--version"], "<&- >&- 2>&-", 0),
     (["--version"], ">/dev/full", 74), (["plan", "--channels", "8", "--rows", "9", "--imsize", "16"], ">/dev/full", 74)],
)  # fmt: skip
@pytest.mark.fault(
    "disk", "standard streams closed or on a full disk",
    "the exit status is the same, or 74 with one line; no traceback",
)  # fmt: skip
def test_streams_that_are_closed_or_full_change_no_exit_status(command: list[str], end: str, status: int) -> None:
    done = run("bash", "-c", f'exec "$@" {end}', "bash", *MODULE, *command)
    assert done.returncode == status and "Traceback" not in done.stderr
    if status == 74:
        assert errors_of(done) == ["radps: error: standard output: No space left on device"]


def test_a_present_folder_that_was_removed_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    done = run("bash", "-c", 'rmdir ../gone; exec "$@"', "bash", *MODULE, *IMAGE, cwd=tmp_path / "gone")
    assert done.returncode == 74
    assert errors_of(done) == ["radps: error: the present folder: No such file or directory; go to one that is there"]


def test_no_file_takes_the_place_of_a_stream_that_was_closed() -> None:
    program = ("import os, sys; from radps_mpi.streams import open_closed_streams; open_closed_streams(); "
               "sys.exit(os.open('/dev/null', os.O_RDONLY))")
    done = run("bash", "-c", 'exec "$@" <&- >&- 2>&-', "bash", sys.executable, "-c", program)
    assert done.returncode > 2


JOURNEY = """
import sys, time, types
import radps_mpi
from radps_mpi.errors import DataError
from radps_mpi.launcher import launcher_rank
fake = types.ModuleType("radps_mpi.pipeline")
def make_cube(config, inputs, comm):
    how = config.output.imagename
    if how == "together" or (comm.rank == 1 and how == "alone"):
        raise DataError("a.ms: no column DATA")
    if comm.rank == 1:
        raise ZeroDivisionError("surprise")
    comm.barrier()
fake.make_cube = make_cube
sys.modules["radps_mpi.pipeline"] = radps_mpi.pipeline = fake
from radps_mpi.__main__ import main
sys.exit(main(["image", "a.ms", "--imsize", "64", "--cell", "1arcsec", "--imagename", sys.argv[1]]))
"""


def errors_of(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What the program itself wrote, without the launcher's remarks."""
    return [line for line in done.stderr.splitlines() if line.startswith("radps")]


@pytest.mark.launches_mpi
@pytest.mark.fault("ranks", "the same error on all ranks of 3", "one line, its exit status")
def test_an_error_of_all_ranks_is_one_line_and_its_exit_status() -> None:
    done = run("mpirun", "-n", "3", sys.executable, "-c", JOURNEY, "together")
    assert errors_of(done) == ["radps: error: a.ms: no column DATA"]
    assert done.returncode == 65


@pytest.mark.launches_mpi
@pytest.mark.fault(
    "ranks", "an error on one rank while the others wait in a barrier",
    "the job ends within 15 s, one line with its rank, its status",
)  # fmt: skip
def test_a_rank_that_is_alone_with_its_error_ends_the_job_within_ten_seconds() -> None:
    start = time.monotonic()
    done = run("mpirun", "-n", "3", sys.executable, "-c", JOURNEY, "alone")
    assert errors_of(done) == ["radps: error: rank 1: a.ms: no column DATA"]
    assert done.returncode == 65
    assert time.monotonic() - start < 15.0  # ten and the start of three processes


@pytest.mark.launches_mpi
@pytest.mark.fault(
    "ranks", "an uncaught error on one rank while others wait in a barrier",
    "the job ends within 10 s with rank and traceback",
)  # fmt: skip
def test_an_uncaught_error_of_one_rank_ends_the_job_with_its_traceback() -> None:
    start = time.monotonic()
    done = run("mpirun", "-n", "3", sys.executable, "-c", JOURNEY, "surprise")
    assert errors_of(done) == ["radps: uncaught error on rank 1 of 3"]
    assert "ZeroDivisionError: surprise" in done.stderr
    assert done.returncode != 0
    assert time.monotonic() - start < 10.0


@pytest.mark.launches_mpi
@pytest.mark.parametrize("program", [PLAIN, MPI4PY], ids=["radps", "python -m mpi4py"])
def test_under_mpirun_only_the_first_rank_speaks(program: list[str], tmp_path: Path) -> None:
    wrong = run("mpirun", "-n", "3", *program, "image", "a.ms", "--nitre", "5", cwd=tmp_path)
    assert (wrong.returncode, len(errors_of(wrong))) == (64, 1)
    unreadable = run("mpirun", "-n", "3", *program, "image", "a.ms", "--config", "none.toml", cwd=tmp_path)
    assert errors_of(unreadable) == ["radps: error: configuration none.toml: No such file or directory"]
    assert unreadable.returncode == 64
    version = run("mpirun", "-n", "3", *program, "--version", cwd=tmp_path)
    assert (version.returncode, version.stdout.count("radps")) == (0, 1)
