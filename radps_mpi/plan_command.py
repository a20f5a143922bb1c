"""What ``radps plan`` does with its options: calibrate the machine, or plan a run and show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from radps_mpi.errors import EXIT_OK, UsageError, printable
from radps_mpi.given_parameters import gather_parameters
from radps_mpi.journey.plan import Request, make_plan
from radps_mpi.journey.plan_inputs import Imagined
from radps_mpi.journey.plan_report import plan_json, plan_lines, plot_scaling
from radps_mpi.parallel import on_root
from radps_mpi.parallel.types import Comm
from radps_mpi.planning.machine_constants import Machine, default_path, read_machine, write_machine
from radps_mpi.streams import say
from radps_mpi.units import did_you_mean, frequency_hz, length_m, size_bytes

_IMAGINED = ("channels", "rows", "polarisations", "first_channel", "channel_width", "max_baseline", "telescope")
_MOST_RANKS = 1 << 20
_MOST_CHANNELS = 10**7
"""A hundred times those of ALMA's largest cubes: a plan has an array of them, and a record of each block."""
_USUAL_RANKS = 4096
_USUAL_NODES = 16


def run(given: Mapping[str, Any], comm: Comm) -> int:
    """Carry out the command; collective. Returns the exit status."""
    if given.get("calibrate"):
        return _calibrate(given, comm)
    machine, source = on_root(comm, "reading the machine file", lambda: machine_of(given))
    request = request_of(given)
    flat, labels = _parameters(given, comm, imagined=request.imagined is not None)
    plan = make_plan(comm, flat, labels, request, machine)
    if comm.rank == 0:
        if given.get("json"):
            say(plan_json(plan, source))
        else:
            say("\n".join(map(printable, plan_lines(plan, source))))
    if "plot" in given:
        on_root(comm, f"drawing {given['plot']}", lambda: plot_scaling(plan, Path(given["plot"])))
    return EXIT_OK


def _calibrate(given: Mapping[str, Any], comm: Comm) -> int:
    from radps_mpi.calibration import calibrate  # loads everything that a run does

    path = Path(given["machine"]) if "machine" in given else default_path()
    machine = calibrate(comm, Path.cwd())
    on_root(comm, f"writing {path}", lambda: write_machine(path, machine))
    if comm.rank == 0:
        say(f"{machine.to_toml()}# kept as {path}")
    return EXIT_OK


def machine_of(given: Mapping[str, Any]) -> tuple[Machine, str]:
    """The machine's constants and where they come from. UsageError for a file or a size that can't be used."""
    path = Path(given["machine"]) if "machine" in given else default_path()
    if "machine" in given or path.exists():
        machine, source = read_machine(path), f"constants of {path}"
        source += f", measured {machine.calibrated}" if machine.calibrated else ""
    else:
        machine, source = Machine(), "built-in constants, not measured here (radps plan --calibrate does that)"
    if "cores_per_node" in given:
        machine = replace(machine, cores_per_node=_count(given, "cores_per_node", 1, 1 << 16))
    if "memory_per_node" in given:
        machine = replace(machine, memory_per_node_bytes=_quantity("--memory-per-node", given["memory_per_node"], size_bytes))
    return machine, source


def _quantity(label: str, text: str, parse: Any) -> Any:
    try:
        value = parse(text)
    except UsageError as error:
        raise UsageError(f"{label}: {error}") from None
    if value <= 0:
        raise UsageError(f"{label}: {text!r} is not above 0")
    return value


def _count(given: Mapping[str, Any], name: str, least: int, most: int) -> int:
    label, value = "--" + name.replace("_", "-"), given[name]
    try:
        count = int(value)
    except ValueError:
        raise UsageError(f"{label}: {value!r} is not a whole number") from None
    if not least <= count <= most:
        raise UsageError(f"{label}: {count} is outside the allowed range: {least} to {most}")
    return count


def request_of(given: Mapping[str, Any]) -> Request:
    """What is asked of the plan beside parameters of images. UsageError for a number that can't be used."""
    scaling = _count(given, "scaling", 2, _MOST_RANKS) if "scaling" in given else _USUAL_RANKS if "plot" in given else 0
    nodes = _count(given, "max_nodes", 1, _MOST_RANKS) if "max_nodes" in given else _USUAL_NODES
    numbers = {
        name: _count(given, name, 1, 10**9) if name in given else None for name in ("line_channels", "cycles")
    }
    return Request(
        imagined=_imagined(given), most_nodes=nodes, scaling_ranks=scaling, measured=tuple(given.get("measured", ())), **numbers
    )


def _imagined(given: Mapping[str, Any]) -> Imagined | None:
    named = [name for name in _IMAGINED if name in given]
    if not named:
        return None
    if given.get("inputs"):
        raise UsageError(f"--{named[0].replace('_', '-')} is for a plan without inputs: leave one of them out")
    if "channels" not in given or "rows" not in given:
        raise UsageError("a plan without inputs needs --channels and --rows")
    values: dict[str, Any] = {
        "channels": _count(given, "channels", 1, _MOST_CHANNELS), "rows": _count(given, "rows", 1, 10**12),
    }  # fmt: skip
    if "polarisations" in given:
        values["polarisations"] = _count(given, "polarisations", 1, 4)
    for name, field, parse in (
        ("first_channel", "start_hz", frequency_hz), ("channel_width", "width_hz", frequency_hz),
        ("max_baseline", "max_baseline_m", length_m),
    ):  # fmt: skip
        if name in given:
            values[field] = _quantity("--" + name.replace("_", "-"), given[name], parse)
    if "telescope" in given:
        values["telescope"] = str(given["telescope"]).upper()
        if values["telescope"] not in ("ALMA", "VLA"):
            raise UsageError(f"--telescope: {given['telescope']!r} is not one of ALMA, VLA"
                             f"{did_you_mean(values['telescope'], ('ALMA', 'VLA'))}")  # fmt: skip
    return Imagined(**values)


def _parameters(given: Mapping[str, Any], comm: Comm, *, imagined: bool) -> tuple[dict[str, Any], dict[str, str]]:
    """Parameters and what messages call them; an imagined observation has no inputs."""
    flat, labels = gather_parameters(given, comm)
    if imagined:
        flat.pop("vis", None)
    elif not flat.get("vis"):
        raise UsageError("no inputs: name MeasurementSets or a store, or an imagined observation by --channels and --rows")
    return flat, labels
