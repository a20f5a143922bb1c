"""FFTW without pyfftw's interfaces: they are not loaded by us, and there for others."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
import numpy as np
import radps_mpi.imaging.gridding
loaded = {name for name in ("dask", "scipy.fft", "scipy.special", "pyfftw.interfaces") if name in sys.modules}
assert not loaded, loaded
import pyfftw
values = np.arange(8.0)
np.testing.assert_allclose(pyfftw.interfaces.numpy_fft.fft(values), np.fft.fft(values))
import pyfftw.interfaces.cache
assert pyfftw.interfaces is sys.modules["pyfftw.interfaces"]
assert not hasattr(pyfftw, "nothing_of_the_kind")
"""

BEFORE = """
import sys
import pyfftw
interfaces = pyfftw.interfaces
import radps_mpi.imaging.fftw
assert pyfftw.interfaces is interfaces is sys.modules["pyfftw.interfaces"] and interfaces.numpy_fft
"""


def test_a_rank_does_not_import_the_interfaces_and_others_still_can() -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=60)


def test_a_process_that_has_pyfftw_keeps_it_as_it_is() -> None:
    subprocess.run([sys.executable, "-c", BEFORE], check=True, timeout=60)
