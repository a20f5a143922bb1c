"""Kernels compiled for processors of other vectors: which width numba's target makes them take, and that it changes no bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from radps_kernels import vectors
from support import jobs, vector_bits

AVX2 = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma"}
AVX512 = {"NUMBA_CPU_NAME": "skylake-avx512", "NUMBA_CPU_FEATURES": "+avx2,+fma,+avx512f"}
WITHOUT = {"NUMBA_CPU_NAME": "skylake-avx512", "NUMBA_CPU_FEATURES": "+avx2,+fma,-avx512f"}
REGISTER_BYTES = "from radps_kernels.vectors import register_bytes; print(register_bytes())"


def run_for(target: dict[str, str], *args: str) -> str:
    """Output of a Python process whose numba compiles for ``target``, whatever this one's does."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_CPU_")}
    paths = os.pathsep.join((str(jobs.REPOSITORY), str(jobs.REPOSITORY / "kernels")))
    environment = {**inherited, "PYTHONPATH": paths, **target}
    done = subprocess.run([sys.executable, *args], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("target", "expected"), [(AVX2, 32), (AVX512, 64), (WITHOUT, 32), ({"NUMBA_CPU_NAME": "generic"}, 32)],
    ids=["AVX2", "AVX-512", "AVX-512 denied", "generic"],
)  # fmt: skip
def test_vectors_are_as_long_as_the_registers_of_the_target_of_numba(target: dict[str, str], expected: int) -> None:
    assert int(run_for(target, "-c", REGISTER_BYTES)) == expected


def test_code_for_avx2_gives_the_bits_of_code_for_avx512(tmp_path: Path) -> None:
    if vectors.register_bytes() < 64:
        pytest.skip("numba compiles for a processor without AVX-512 here: there is nothing to compare AVX2 with")
    narrower = json.loads(run_for(AVX2 | {"NUMBA_CACHE_DIR": str(tmp_path)}, vector_bits.__file__))
    here = vector_bits.bits()
    assert (here["vector_width"], narrower["vector_width"]) == (16, 8)
    assert narrower["registers"] == ["ymm"], "the target is not what the test asked for"
    assert narrower["digests"] == here["digests"]
