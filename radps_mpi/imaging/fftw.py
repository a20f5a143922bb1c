"""FFTW by pyfftw, without what pyfftw imports beside it.

``import pyfftw`` loads ``pyfftw.interfaces``, and with them half of scipy, and dask where that is installed: 300 of the 1,000
modules that a rank imports, and a third of the processor time of its start. Nothing of it is used here, and thousands of ranks
that start together read every module's file from one file system.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

_INTERFACES = "pyfftw.interfaces"


def _load() -> ModuleType:
    """pyfftw whose ``interfaces`` are loaded when somebody asks for them; as it is if the process has it already."""
    if "pyfftw" in sys.modules:
        return sys.modules["pyfftw"]
    sys.modules[_INTERFACES] = ModuleType(_INTERFACES)
    try:
        package = importlib.import_module("pyfftw")
    finally:
        del sys.modules[_INTERFACES]
    del package.interfaces

    def load_late(name: str) -> Any:
        if name != "interfaces":
            raise AttributeError(f"module 'pyfftw' has no attribute {name!r}")
        return importlib.import_module(_INTERFACES)

    package.__dict__["__getattr__"] = load_late
    return package


_pyfftw = _load()
FFTW = _pyfftw.FFTW
empty_aligned = _pyfftw.empty_aligned
version: str = _pyfftw.fftw_version
