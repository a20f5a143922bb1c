"""pyfftw without its interfaces, which nobody here uses: scipy.fftpack and, where it is installed, dask come with them.

That is 0.15 to 0.3 s of a start of 2 s, and up to 290 modules whose files each of ten thousand ranks would open.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

_INTERFACES = "pyfftw.interfaces"


def _without_interfaces() -> ModuleType:
    """pyfftw, whose interfaces are imported when somebody asks for them."""
    if "pyfftw" in sys.modules:
        return sys.modules["pyfftw"]
    sys.modules[_INTERFACES] = ModuleType(_INTERFACES)
    try:
        package = importlib.import_module("pyfftw")
    finally:
        del sys.modules[_INTERFACES]
    del package.interfaces

    def on_demand(name: str) -> Any:
        if name != "interfaces":
            raise AttributeError(f"module 'pyfftw' has no attribute {name!r}")
        return importlib.import_module(_INTERFACES)

    package.__dict__["__getattr__"] = on_demand
    return package


pyfftw: Any = _without_interfaces()
