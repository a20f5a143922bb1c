"""Configurations as TOML text: read with the standard library, written by a few lines of our own."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from radps_mpi.errors import UsageError
from radps_mpi.user_files import read_text

CONFIG_VERSION = 1
"""Written as ``config_version`` into every file; files of a later version are refused."""


def load_toml(path: str | Path) -> dict[str, Any]:
    """Flat names and values of a TOML file, dashes in names turned to underscores; names are not checked.

    Raises
    ------
    UsageError
        If the file can't be read, is not TOML, has tables or another version.
    """
    try:
        text = read_text(Path(path))
    except OSError as error:
        raise UsageError(f"configuration {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise UsageError(f"configuration {path}: not a text in UTF-8") from None
    return parse_toml(text, str(path))


def parse_toml(text: str, source: str) -> dict[str, Any]:
    """Like :func:`load_toml` of a text; ``source`` names it in messages."""
    try:
        raw = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, brackets in brackets
        raise UsageError(f"{source}: not valid TOML: {error}") from None
    values = {name.replace("-", "_"): value for name, value in raw.items()}
    version = values.pop("config_version", CONFIG_VERSION)
    if version != CONFIG_VERSION:
        raise UsageError(f"{source}: config_version {version} is not known; this radps reads version {CONFIG_VERSION}")
    tables = [name for name, value in values.items() if isinstance(value, dict)]
    if tables:
        raise UsageError(f"{source}: names are flat, without tables: take out [{tables[0]}]")
    return values


def format_value(value: Any) -> str:
    """A text, number, truth value or tuple of those as TOML, so that reading it back gives an equal value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _format_string(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(map(format_value, value)) + "]"
    return repr(value)


_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def _format_string(text: str) -> str:
    plain = (_ESCAPES.get(c) or (c if c.isprintable() else f"\\U{ord(c):08x}") for c in text)
    return '"' + "".join(plain) + '"'
