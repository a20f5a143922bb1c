"""Files that mean harm, in the place of a store, a state or a manifest: refused by name, at once, without memory, and nothing
outside is read or written."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest
from support import jobs

from radps_mpi.errors import DataError, printable
from radps_mpi.io import manifest as manifests
from radps_mpi.io.preflight import look_at_measurement_set, look_at_store
from radps_mpi.io.run_status import read_status
from radps_mpi.io.seal import write_seal
from radps_mpi.io.visibility_store import VisibilityStore

pytestmark = pytest.mark.launches_mpi

GROUP = "observation_00000"
SECONDS, MEGABYTES = 2.0, 500
TERABYTES_40 = 40 * 10**12


@dataclass(frozen=True)
class Ended:
    status: int
    lines: list[str]
    stderr: str
    cpu_s: float
    peak_mb: float


MEASURE = """
import json, resource, subprocess, sys
status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=False).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([status, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
"""
"""Between pytest and the command: the kernel counts the memory of whoever started a process as its own, until it is another
program, and pytest may have grown large."""


def radps(*arguments: object) -> Ended:
    """The command on one process, without mpirun, with the processor time and memory that it took."""
    command = [sys.executable, "-c", MEASURE, sys.executable, "-m", "radps_mpi", *map(str, arguments)]
    done = subprocess.run(command, env=jobs.environment(), capture_output=True, text=True, check=True)
    lines = [line for line in done.stderr.splitlines() if line.startswith("radps: error:")]
    status, cpu_s, peak_mb = json.loads(done.stdout)
    return Ended(status, lines, done.stderr, cpu_s, peak_mb)


def assert_refused(ended: Ended, path: Path, says: str, status: int = 65) -> None:
    assert ended.status == status, ended.stderr
    (line,) = ended.lines
    assert str(path) in line and says in line, line
    assert "Traceback" not in ended.stderr
    assert ended.cpu_s < SECONDS and ended.peak_mb < MEGABYTES, ended


def replace(path: Path, name: str, put: Callable[[h5py.Group], object]) -> None:
    with h5py.File(path, "r+") as file:
        del file[GROUP][name]
        put(file[GROUP])


def virtual(group: h5py.Group) -> None:
    layout = h5py.VirtualLayout((4,), "<f8")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (4,))
    group.create_virtual_dataset("freq_hz", layout)


def unknown_filter(group: h5py.Group) -> None:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((4,))
    plist.set_filter(32123, h5py.h5z.FLAG_OPTIONAL, (1, 2))
    space = h5py.h5s.create_simple((4,))
    h5py.h5d.create(group.id, b"freq_hz", h5py.h5t.IEEE_F64LE, space, dcpl=plist)


STORES: dict[str, tuple[Callable[[h5py.Group], object], str]] = {
    "external storage": (lambda g: g.create_dataset("freq_hz", (4,), "<f8", external=[("/etc/passwd", 0, 32)]),
                         "in another file"),
    "external link": (lambda g: g.__setitem__("freq_hz", h5py.ExternalLink("/etc/passwd", "/x")), "external link"),
    "soft link": (lambda g: g.__setitem__("freq_hz", h5py.SoftLink("/elsewhere")), "soft or external link"),
    "virtual dataset": (virtual, "virtual"),
    "unknown filter": (unknown_filter, "filtered"),
    "a bomb of zeros": (lambda g: g.create_dataset("freq_hz", (10**9,), "<f8", compression="gzip"), "filtered"),
    "40 TB": (lambda g: g.create_dataset("freq_hz", (TERABYTES_40 // 8,), "<f8"), "doesn't hold"),
    "40 TB in chunks": (lambda g: g.create_dataset("freq_hz", (TERABYTES_40 // 8,), "<f8", chunks=(1024,)), "chunked"),
    "text for numbers": (lambda g: g.create_dataset("freq_hz", (4,), h5py.string_dtype()), "plain numbers"),
    "other numbers": (lambda g: g.create_dataset("freq_hz", data=np.ones(4, ">f4")), "expected float64"),
    "a loop": (lambda g: g.__setitem__("freq_hz", g.parent), "linked more than once"),
    "a guest": (lambda g: g.create_dataset("freq_hz", data=np.ones(4)) and g.create_dataset("\x1b[2Jguest", data=[1.0]),
                "doesn't belong"),
}  # fmt: skip


@pytest.mark.parametrize("name", STORES)
@pytest.mark.fault("hostile", "in the place of a store: {name}", "refused by name, under 2 s of processor time and 500 MB")
def test_a_hostile_store_is_refused_by_name_at_once(small_store: Path, tmp_path: Path, name: str) -> None:
    put, says = STORES[name]
    store = Path(shutil.copy(small_store, tmp_path / "bad.vis.h5"))
    replace(store, "freq_hz", put)
    ended = radps("verify", store)
    assert_refused(ended, store, says)
    assert "\x1b" not in ended.stderr, "names from files are escaped"
    write_seal(store, [])  # whoever makes a file can seal it too
    with pytest.raises(DataError, match=says):
        VisibilityStore.open(store)


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.fault(
    "hostile", "a store with external storage, given to image and to resume, on 1 and 2 ranks",
    "status 65, one line; a refused run leaves nothing", times=2,
)  # fmt: skip
def test_a_hostile_store_is_refused_by_image_and_resume_on_any_number_of_ranks(
    small_store: Path, kept_run: Path, tmp_path: Path, ranks: int
) -> None:
    store = Path(shutil.copy(small_store, tmp_path / "bad.vis.h5"))
    replace(store, "freq_hz", STORES["external storage"][0])
    done = jobs.run_radps(["image", store, "--imagename", tmp_path / "a", "--imsize", "32", "--cell", "1arcsec"], ranks)
    (line,) = jobs.error_lines(done)
    assert done.returncode == 65 and str(store) in line and "in another file" in line
    assert not list(tmp_path.glob("a*")), "a refused run leaves nothing"
    copied = copy_of(kept_run, tmp_path)
    config = Path(f"{copied}.radps") / "config.toml"
    config.write_text(config.read_text().replace(str(small_store), str(store)))
    done = jobs.run_radps(["resume", copied], ranks)
    (line,) = jobs.error_lines(done)
    assert done.returncode == 65 and "in another file" in line


def copy_of(kept_run: Path, folder: Path) -> Path:
    shutil.copytree(f"{kept_run}.radps", folder / "cube.radps")
    return folder / "cube"


@pytest.mark.fault("hostile", "a crash of HDF5 or casacore on a file", "one line naming file, library and signal", times=2)
def test_a_library_that_crashes_on_a_store_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os, sys\nif 'radps_mpi.io.preflight' in sys.orig_argv: os.abort()\n")
    (tmp_path / "a.vis.h5").write_bytes(b"\x89HDF")
    (tmp_path / "a.ms").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    for look, name, library in ((look_at_store, "a.vis.h5", "HDF5"), (look_at_measurement_set, "a.ms", "casacore")):
        with pytest.raises(DataError, match=rf"{name}: reading its tables crashes {library} \(status -6\)"):
            look(tmp_path / name)


# States and manifests ------------------------------------------------------------------------------------------------


def forge(imagename: Path, change: Callable[[manifests.Manifest], object]) -> None:
    """A manifest with other content and the checksum that goes with it."""
    path = Path(f"{imagename}.radps") / "manifest"
    manifest = manifests.read(path)
    change(manifest)
    path.write_bytes(b"".join(manifests.encode(manifest)))
    manifests.previous_of(path).unlink()


def of_size(nchan: int, ny: int, nx: int) -> Callable[[manifests.Manifest], None]:
    def change(manifest: manifests.Manifest) -> None:
        state = manifest.header["state"]
        nbytes, end, offsets = nchan * ny * nx * 4, 0, {}
        for name in state["offset_bytes"]:
            offsets[name], end = end, end + nbytes
        from radps_mpi.io.state_file import StateLayout, _sum_of

        empty = StateLayout(nchan, ny, nx, offsets, end, b"", _sum_of(b""))
        manifest.header["state"] = empty.to_header()

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (of_size(4, 1_000_000, 2_500_000), "the run's image is 4 x 32 x 32"),
        (lambda m: m.header["state"].update(nchan=10**9), "contradicts itself"),
        (lambda m: m.header["state"].update(offset_bytes={"psf": -1}), "contradicts itself"),
        (lambda m: m.header["state"].update(structure="eJw="), "contradicts itself"),
        (lambda m: m.header["state"].update(format="pickle"), "format"),
        (lambda m: m.header.pop("state"), "incomplete"),
        (lambda m: m.header.pop("identity"), "different visibilities"),
        (lambda m: m.header.pop("config"), "no configuration"),
    ],
)
@pytest.mark.fault(
    "hostile", "a manifest forged with its checksum: 10 TB planes, impossible offsets, pickle, no state, ...",
    "status 65, one line; the state is untouched",
)  # fmt: skip
def test_a_forged_manifest_is_refused_by_name_and_changes_nothing(
    kept_run: Path, tmp_path: Path, change: Callable[[manifests.Manifest], object], says: str
) -> None:
    copied = copy_of(kept_run, tmp_path)
    forge(copied, change)
    state = Path(f"{copied}.radps") / "state.h5"
    before = state.read_bytes()
    ended = radps("resume", copied)
    assert ended.status == 65 and len(ended.lines) == 1 and says in ended.lines[0], ended.stderr
    assert state.read_bytes() == before


@pytest.mark.fault("hostile", "a state that declares 40 TB, radps verify", "status 65, under 2 s of processor time and 500 MB")
def test_a_state_of_40_tb_is_verified_without_memory(kept_run: Path, tmp_path: Path) -> None:
    copied = copy_of(kept_run, tmp_path)
    forge(copied, of_size(4, 1_000_000, 2_500_000))
    ended = radps("verify", copied)
    assert ended.status == 65 and "Traceback" not in ended.stderr
    assert ended.cpu_s < SECONDS and ended.peak_mb < MEGABYTES


def first_line(nheader: int, nchan: int, record: int = manifests.CHANNEL_RECORD.itemsize, narray: int = 0) -> bytes:
    return (b"RADPS-MANIFEST %d %d %d %d %d" % (manifests.VERSION, nheader, narray, nchan, record)).ljust(63) + b"\n"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a radps manifest"),
        (b"\x80\x04\x95" + bytes(100), "not a radps manifest"),
        (first_line(10**15, 3), "impossible"),
        (first_line(10, 10**11), "impossible"),
        (first_line(100, 3, 10**12), "impossible"),
        (first_line(100, 3, narray=10**12), "impossible"),
        (first_line(100, 3) + bytes(10), "cut short"),
        (b"RADPS-MANIFEST 9 10 10 183".ljust(63) + b"\n", "newer"),
    ],
)
@pytest.mark.fault(
    "hostile", "in the place of both manifests: nothing, pickle, impossible sizes, a newer version",
    "refused by name, under 2 s of processor time and 500 MB",
)  # fmt: skip
def test_what_is_no_manifest_is_refused_by_name(kept_run: Path, tmp_path: Path, content: bytes, says: str) -> None:
    copied = copy_of(kept_run, tmp_path)
    path = Path(f"{copied}.radps") / "manifest"
    path.write_bytes(content)
    manifests.previous_of(path).write_bytes(content)
    assert_refused(radps("verify", copied), path, says)


@pytest.mark.fault(
    "hostile", "symbolic links in place of state and status",
    "one line; what they lead to is untouched", times=2,
)  # fmt: skip
def test_links_in_a_run_directory_lead_nowhere(kept_run: Path, tmp_path: Path) -> None:
    copied = copy_of(kept_run, tmp_path)
    root, victim = Path(f"{copied}.radps"), tmp_path / "victim"
    victim.write_text("untouched")
    for name in ("status.json.tmp", "state.h5"):
        (root / name).unlink(missing_ok=True)
        (root / name).symlink_to(victim)
    ended = radps("resume", copied)
    assert ended.status in (65, 74) and len(ended.lines) == 1 and "Traceback" not in ended.stderr, ended.stderr
    assert victim.read_text() == "untouched"


@pytest.mark.fault("hostile", "symbolic links in place of logs", "nothing is written elsewhere", times=2)
def test_logs_that_lead_elsewhere_are_refused(kept_run: Path, tmp_path: Path) -> None:
    copied = copy_of(kept_run, tmp_path)
    logs, elsewhere = Path(f"{copied}.radps") / "logs", tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.rmtree(logs)
    logs.symlink_to(elsewhere)
    assert_refused(radps("resume", copied), logs, "symbolic link", status=64)
    logs.unlink()
    logs.mkdir()
    (logs / "radps.log").symlink_to(elsewhere / "victim")
    assert radps("resume", copied, "--niter", "70").status == 0, "a log is news, not state"
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize(
    "status",
    [b"[" * 100_000, b'{"phase": 5}', b'{"phase": "x", "eta_s": "soon"}', b'{"phase": "x", "done": [1]}', b"[]", b"\xff\xfe"],
)
@pytest.mark.fault("hostile", "a status file of nonsense, of 100,000 brackets, of no text", "refused by name")
def test_a_status_of_nonsense_is_refused_by_name(kept_run: Path, tmp_path: Path, status: bytes) -> None:
    copied = copy_of(kept_run, tmp_path)
    path = Path(f"{copied}.radps") / "status.json"
    path.write_bytes(status)
    with pytest.raises(DataError, match=r"status\.json: not a status file"):
        read_status(path.parent)


@pytest.mark.fault("hostile", "terminal commands in a status file", "shown escaped")
def test_a_status_cannot_write_to_the_terminal(kept_run: Path, tmp_path: Path) -> None:
    copied = copy_of(kept_run, tmp_path)
    path = Path(f"{copied}.radps") / "status.json"
    path.write_text(json.dumps({"phase": "\x1b]0;owned\x07", "message": "\x1b[2J"}))
    done = jobs.run_radps(["status", copied])
    assert done.returncode == 0 and "\x1b" not in done.stdout and "\\x1b[2J" in done.stdout


def test_escapes_keep_letters_and_stop_commands() -> None:
    assert printable("Ångström λ \x1b[2J\r\n\udc80\u202e") == r"Ångström λ \x1b[2J\r\n\udc80\u202e"


def test_nothing_is_ever_unpickled() -> None:
    sources = (jobs.REPOSITORY / "radps_mpi").rglob("*.py")
    assert not [path for path in sources if any(word in path.read_text() for word in ("import pickle", "allow_pickle=True"))]
