"""Pixels as FITS holds them, against numpy's conversion."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from radps_kernels.fits_words import swap_words


@given(hnp.arrays(np.uint32, st.integers(0, 200)))
def test_every_bit_pattern_arrives_with_one_pattern_for_nan(bits: NDArray[np.uint32]) -> None:
    pixels = bits.view(np.float32)
    expected = pixels.astype(">f4")
    expected[np.isnan(pixels)] = np.nan
    out = np.empty_like(bits)
    total = swap_words(bits, out)
    assert out.tobytes() == expected.tobytes()
    assert total == int(np.frombuffer(expected.tobytes(), ">u4").sum(dtype=np.uint64))
