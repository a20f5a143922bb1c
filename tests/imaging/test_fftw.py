"""pyfftw comes without what it isn't needed for, and without harm to others in the same process."""

from __future__ import annotations

import subprocess
import sys


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60).stdout


def test_gridding_imports_no_interfaces_of_pyfftw() -> None:
    names = run("import sys, radps_mpi.imaging.gridding; print(*sys.modules)").split()
    assert "pyfftw.pyfftw" in names
    assert not {"pyfftw.interfaces", "scipy.fftpack", "dask"} & set(names)


def test_a_user_of_the_interfaces_gets_them_afterwards() -> None:
    use = "pyfftw.interfaces.numpy_fft.fft([1.0, 1.0])[0].real"
    assert run(f"import radps_mpi.imaging.fftw, pyfftw; print({use})").strip() == "2.0"
    assert run(f"import radps_mpi.imaging.fftw, pyfftw.interfaces.numpy_fft; print({use})").strip() == "2.0"


def test_pyfftw_that_is_there_already_is_taken_as_it_is() -> None:
    assert run("import pyfftw; from radps_mpi.imaging import fftw; print(fftw.pyfftw is pyfftw)").strip() == "True"
