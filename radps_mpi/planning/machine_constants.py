"""What a machine does in a second: the constants of the cost model, built in or measured, kept as ``machine.toml``."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from radps_mpi.config_toml import format_value
from radps_mpi.errors import StorageError, UsageError
from radps_mpi.units import did_you_mean
from radps_mpi.user_files import read_user_file, user_file

MACHINE_VERSION = 3
"""Written as ``machine_version`` into every file; files of another version are refused."""

_LARGEST = 1e18
"""Of any constant, whatever its unit: beyond it sums overflow and plans are nonsense."""


def _c(default: float, meaning: str) -> Any:
    """A constant: its built-in value, and what it is, which the file says beside it."""
    return field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True, slots=True)
class Machine:
    """Constants of one kind of node and what joins them; one rank, one thread, where nothing else is said.

    The built-in values were measured by ``radps plan --calibrate`` on a virtual machine with 2 cores (AMD EPYC, AVX-512);
    those of the network and of a file system that nodes share are guesses of a small cluster.
    """

    calibrated: str = field(default="", metadata={"meaning": "when, on which processor; empty for built-in values"})
    processor: str = field(
        default="", metadata={"meaning": "of the nodes, by its name in /proc/cpuinfo; empty for the planning process's"}
    )
    cores_per_node: int = _c(0, "0 is as many as the planning process may use")
    memory_per_node_bytes: int = _c(0, "0 is what the planning process may use")
    base_memory_bytes: float = _c(253e6, "of a rank before it has data: Python, libraries, compiled kernels")
    kernels_memory_bytes: float = _c(90e6, "of that, what imaging loads and ingest doesn't")
    ingest_memory_bytes: float = _c(33.8e6, "more than that, once MeasurementSets are read")
    start_s: float = _c(0.91, "from the start of a process to its first work")
    start_per_rank_s: float = _c(0.002, "more for every rank of the job: one file system serves all imports")
    survey_fixed_s: float = _c(0.23, "more where the inputs are MeasurementSets: loading casacore, listing their rows")
    ingest_fixed_s: float = _c(0.23, "laying out the store, opening tables")
    ingest_us_per_row: float = _c(2.4, "survey, sorting, for every row of the MeasurementSets: not shared by the ranks")
    frames_us_per_time: float = _c(140.0, "frequencies in other frames, for every integration: in the survey and in ingest")
    layout_fixed_s: float = _c(0.31, "planning the image, creating the state")
    layout_after_ingest_s: float = _c(0.13, "the same, where ingest has loaded most of what it takes")
    first_fixed_s: float = _c(0.17, "loading kernels at their first use")
    minor_fixed_s: float = _c(0.019, "the same for the minor cycle")
    major_fixed_s: float = _c(0.029, "the same for the major cycle")
    products_fixed_s: float = _c(0.016, "headers, the same for restoring")
    ingest_ns_per_sample: float = _c(11.0, "row-major to channel-major: reading, turning, writing one correlation's datum")
    read_ns_per_sample: float = _c(7.9, "store to image channels: for each stored and each interpolated datum")
    density_ns_per_visibility: float = _c(14.0, "counting a visibility into the weight density")
    density_ns_per_pixel: float = _c(0.31, "of the density's planes: clearing, squares")
    weight_ns_per_visibility: float = _c(8.5, "imaging weight and its sums")
    grid_ns_per_tap: float = _c(0.074, "a visibility costs support * (support + 4) of them")
    degrid_ns_per_tap: float = _c(0.075, "predicting, subtracting")
    plane_per_lane: float = _c(3.8, "times as long for a visibility of a single channel or a continuum image")
    clear_ns_per_cell: float = _c(1.1, "a grid's complex cell, cleared and touched first")
    transform_ns_per_point: float = _c(0.26, "of the transforms along v and u, times the binary logarithm of their length")
    psf_ns_per_pixel: float = _c(5.0, "PSF and dirty image: sidelobes, peaks, checksums, writing")
    psf_fixed_ms: float = _c(0.72, "of a channel: fitting the beam")
    residual_ns_per_pixel: float = _c(3.5, "a residual: peaks, checksum, writing; the model read")
    minor_ns_per_pixel: float = _c(5.5, "a channel's minor cycle before its first iteration")
    minor_us_per_iteration: float = _c(1.8, "finding the peak, subtracting, in a mask of 10,000 pixels of 512 x 512")
    product_ns_per_pixel: float = _c(2.5, "of each product: restoring, beams, byte order, checksum, writing")
    product_fixed_ms: float = _c(0.08, "of a channel's products")
    commit_fixed_s: float = _c(0.0011, "flushing, replacing the manifest")
    commit_us_per_channel: float = _c(1.0, "of the manifest's table, for every channel of the cube")
    memory_bytes_s: float = _c(32.8e9, "what all ranks of a node together can move")
    disk_write_bytes_s: float = _c(2.06e9, "a node's, flushed")
    disk_read_bytes_s: float = _c(3.08e9, "a node's")
    file_system_bytes_s: float = _c(100e9, "what all nodes together can write or read")
    network_latency_us: float = _c(5.0, "of a small message between ranks")
    network_bytes_s: float = _c(5e9, "between two ranks")

    def to_toml(self) -> str:
        """The whole file; :func:`machine_of_toml` of it gives an equal machine."""
        lines = ["# Constants of the cost model; made by `radps plan --calibrate`, may be edited.",
                 f"machine_version = {MACHINE_VERSION}"]
        for f in fields(self):
            lines += ["", f"# {f.metadata['meaning']}", f"{f.name} = {format_value(getattr(self, f.name))}"]
        return "\n".join(lines) + "\n"


def machine_of_toml(text: str, source: str) -> Machine:
    """Parse a machine file's text; constants that it leaves out have their built-in values.

    Raises
    ------
    UsageError
        If it isn't TOML, has another version, or a name or value that can't be used; ``source`` names it.
    """
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, brackets in brackets
        raise UsageError(f"{source}: not valid TOML: {error}") from None
    version = values.pop("machine_version", None)
    if version != MACHINE_VERSION:
        raise UsageError(f"{source}: machine_version {version} is not known, this radps reads version {MACHINE_VERSION}: "
                         "measure the machine again (radps plan --calibrate)")
    known = {f.name: f for f in fields(Machine)}
    for name, value in values.items():
        if name not in known:
            raise UsageError(f"{source}: unknown constant {name!r}{did_you_mean(name, known)}")
        _check(f"{source}: {name}", value, str(known[name].type))
    return Machine(**values)


def _check(label: str, value: object, kind: str) -> None:
    kinds: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float)}
    if not isinstance(value, str | int | float) or isinstance(value, bool) or not isinstance(value, kinds[kind]):
        raise UsageError(f"{label}: {value!r} is not {'a text' if kind == 'str' else 'a number'}")
    if isinstance(value, str):
        return
    if not 0 <= value <= _LARGEST:
        raise UsageError(f"{label}: {value} is outside the allowed range: 0 to {_LARGEST:g}")
    if label.endswith("bytes_s") and value < 1:  # what is divided by less overflows
        raise UsageError(f"{label}: a rate has to be at least 1 byte/s")


def default_path() -> Path:
    """``$XDG_CONFIG_HOME/radps/machine.toml``, by default in ``~/.config``."""
    return user_file("machine.toml")


def read_machine(path: Path) -> Machine:
    """The machine of a file. UsageError if it can't be read or isn't one."""
    return machine_of_toml(read_user_file(path, "machine file"), str(path))


def write_machine(path: Path, machine: Machine) -> None:
    """Keep a machine's constants, replacing earlier ones at once. StorageError if the file system refuses."""
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(machine.to_toml(), encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise StorageError(f"machine file {path}: {error.strerror or error}") from error
