"""The one place where precision is decided.

Coordinates, frequencies and sums of weights are float64 everywhere: at 1e5 wavelengths and 1e4 pixels a float32 phase
would be wrong by radians. Visibilities and images are what the sky and the receivers give: float32.
"""

from __future__ import annotations

import numpy as np

IMAGE = np.dtype(np.float32)
"""Pixels of every image, in memory and on disk (Jy/pixel for models, Jy/beam for the rest)."""

VISIBILITY = np.dtype(np.complex64)
"""Stored visibilities, Jy."""

WEIGHT = np.dtype(np.float32)
"""Visibility weights, 1/Jy^2."""

COORDINATE = np.dtype(np.float64)
"""uvw_m, freq_hz, time_s, angles, sums of weights."""

MASK = np.dtype(np.uint8)
"""CLEAN masks: 1 where a component may be placed."""

GRIDS = {"single": np.dtype(np.float32), "double": np.dtype(np.float64)}
"""uv grids by the configuration's name."""
