"""How all kernels are compiled.

fastmath stays off: it lets the compiler reorder sums, and bits would depend on the vector width. Division follows numpy (no
exception), compiled code is cached, and the interpreter lock is released.
"""

from __future__ import annotations

from typing import Any

JIT: dict[str, Any] = {"nopython": True, "nogil": True, "cache": True, "fastmath": False, "error_model": "numpy"}
