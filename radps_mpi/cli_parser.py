"""Options of a command: made from the configuration's fields, read with argparse, without two of its habits.

argparse takes values such as ``-5km/s`` for options, and an option of several values swallows the inputs behind it;
:func:`attach_values` ties values to their options before argparse sees them.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from radps_mpi.errors import UsageError
from radps_mpi.units import did_you_mean

_NEGATIVE_NUMBER = re.compile(r"-\.?\d")
_INPUT_SUFFIXES = (".ms", ".vis.h5")


@dataclass(frozen=True, slots=True)
class Option:
    """An option as it is spelt, the most values that it takes, and its help."""

    name: str
    most: int
    help: str


class Parser:
    """The options of one command."""

    def __init__(self, name: str, usage: str, description: str) -> None:
        self._parser = _Argparse(
            prog=f"radps {name}", usage=f"radps {name} {usage}".rstrip(), description=description, add_help=False,
            allow_abbrev=False, argument_default=argparse.SUPPRESS, formatter_class=_HelpFormatter)
        self._options: dict[str, Option] = {}
        self._refused: dict[str, str] = {}
        self.own("-h", "--help", action="store_true", help="show this and stop")

    def positional(self, name: str, **details: Any) -> None:
        """Add a plain argument."""
        self._parser.add_argument(name, **details)

    def own(self, *names: str, **details: Any) -> None:
        """Add an option of the command itself."""
        self._add(self._parser, *names, **details)

    def _add(self, group: Any, *names: str, **details: Any) -> None:
        action = group.add_argument(*names, **details)
        most = 0 if action.nargs == 0 else sys.maxsize if details.get("action") == "append" else 1
        text = details["help"].replace("%%", "%")
        self._options |= {name: Option(name, most, text) for name in action.option_strings}

    def parameters(self, title: str, fields: Mapping[str, Any]) -> None:
        """Add one option for each parameter of ``fields`` (name -> pydantic field), under ``title``."""
        group = self._parser.add_argument_group(title)
        for name, info in fields.items():
            self._add(group, "--" + name.replace("_", "-"), dest=name, **_details(info))

    def refuse(self, names: Iterable[str], why: str) -> None:
        """Parameters that exist but not here: whoever gives one is told ``why``."""
        self._refused |= {"--" + name.replace("_", "-"): why for name in names}

    def format_help(self) -> str:
        """The whole help."""
        return self._parser.format_help()

    def parse(self, arguments: Sequence[str]) -> dict[str, Any]:
        """Name -> value of what is given."""
        for name in (token.partition("=")[0].replace("_", "-") for token in arguments):
            if name in self._refused:
                raise UsageError(f"{name} {self._refused[name]}")
        return vars(self._parser.parse_args(attach_values(arguments, self._options)))


class _Argparse(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise UsageError(f"{message}; see {self.prog} --help")


class _HelpFormatter(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=110)


def _details(info: Any) -> dict[str, Any]:
    """What argparse is to know of a pydantic field."""
    from radps_mpi.config import allowed, is_list

    text = _help(info).replace("%", "%%")
    if info.annotation is bool:
        return {"action": argparse.BooleanOptionalAction, "help": text}
    choices = "|".join(name or "''" for name in allowed(info))
    metavar = choices or {int: "N", float: "X"}.get(info.annotation, "VALUE")
    action = "append" if is_list(info) else "store"
    return {"action": action, "metavar": f"{metavar} ..." if action == "append" else metavar, "help": text}


def _help(info: Any) -> str:
    from radps_mpi.config import allowed_range

    default = info.default
    shown = " ".join(map(str, default)) if isinstance(default, tuple) else str(default)
    if isinstance(default, bool):
        shown = "on" if default else "off"
    facts = ["required" if info.is_required() else f"default: {shown}" if shown else "", allowed_range(info)]
    return f"{info.description} [{'; '.join(filter(None, facts))}]" if any(facts) else info.description


def attach_values(arguments: Sequence[str], options: Mapping[str, Option]) -> list[str]:
    """Write ``--name value ...`` as ``--name=value ...``, one option for each value, and plain arguments behind them.

    A value may start with '-' if a digit follows. An option of several values ends at the next option or at what is
    plainly an input (a MeasurementSet or a store). Underscores in names count as dashes.

    Raises
    ------
    UsageError
        For an unknown option (with the nearest that exists), a missing value, or a value that an option doesn't take.
    """
    attached: list[str] = []
    plain: list[str] = []
    position = 0
    while position < len(arguments):
        token = arguments[position]
        position += 1
        if token == "--":
            plain += arguments[position:]
            break
        if not _is_option(token):
            plain.append(token)
            continue
        name, equals, value = token.partition("=")
        option = _known(name, options)
        taken = [value] if equals else _values_behind(arguments[position:], option)
        attached += _attach(option, taken)
        position += 0 if equals else len(taken)
    return [*attached, "--", *plain] if plain else attached


def _is_option(token: str) -> bool:
    return len(token) > 1 and token.startswith("-") and not _NEGATIVE_NUMBER.match(token)


def _known(name: str, options: Mapping[str, Option]) -> Option:
    option = options.get(name) or options.get("--" + name[2:].replace("_", "-"))
    if option is None:
        known = [other.lstrip("-") for other in options]
        raise UsageError(f"unknown option {name!r}{did_you_mean(name.lstrip('-'), known)}")
    return option


def _values_behind(tokens: Sequence[str], option: Option) -> list[str]:
    """The first of ``tokens`` that are values of the option in front of them."""
    taken: list[str] = []
    for token in tokens:
        if len(taken) == option.most or _is_option(token) or (taken and _is_input(token)):
            break
        taken.append(token)
    return taken


def _attach(option: Option, taken: Sequence[str]) -> list[str]:
    if option.most == 0:
        if taken:
            raise UsageError(f"{option.name} takes no value: write {option.name} or leave it out")
        return [option.name]
    if not taken:
        raise UsageError(f"{option.name} needs a value: {option.help}")
    is_short = len(option.name) == 2  # argparse wants the value of a short option directly behind it
    return [f"{option.name}{value}" if is_short else f"{option.name}={value}" for value in taken]


def _is_input(token: str) -> bool:
    return token.rstrip("/").lower().endswith(_INPUT_SUFFIXES) or os.path.exists(os.path.join(token, "table.dat"))
