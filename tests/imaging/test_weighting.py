"""Imaging weights of a handful of visibilities, against numbers worked out by hand and against a plain rewriting in numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from radps_mpi.constants import SPEED_OF_LIGHT_M_S
from radps_mpi.data.axis import SpectralAxis
from radps_mpi.data.geometry import ImageGeometry
from radps_mpi.data.visibilities import VisibilityBlock, VisibilityPass
from radps_mpi.imaging.preparation import PreparedPiece
from radps_mpi.imaging.weighting import (
    WeightingScheme,
    apply_weights,
    density_factors,
    local_density,
    make_scheme,
)

N = 32
GEOMETRY = ImageGeometry(N, N, 1e-5, 1e-5, 0.0, 0.0)
CELL_WAVELENGTHS = 1.0 / (N * 1e-5)
FREQ_HZ = 1e9
CELL_M = CELL_WAVELENGTHS * SPEED_OF_LIGHT_M_S / FREQ_HZ


def piece(uv_cells: NDArray[np.float64], weight: NDArray[np.float64], response: float = 1.0) -> PreparedPiece:
    """Visibilities at (u, v) in cells of the weight grid, one lane for each column of ``weight``."""
    nrow, nlane = weight.shape
    uvw_m = np.hstack([uv_cells * CELL_M, np.zeros((nrow, 1))])
    freq_hz = np.full(nlane, FREQ_HZ)
    vis = VisibilityPass(np.zeros((nrow, 2, nlane), np.float32), weight.astype(np.float32), freq_hz, np.ones(nrow))
    return PreparedPiece(
        VisibilityBlock(uvw_m, [vis]), np.zeros(nrow, np.int32), [np.full((1, nlane), FREQ_HZ / SPEED_OF_LIGHT_M_S)], [],
        [np.full((1, nlane), response, np.float32)],
    )  # fmt: skip


def weighted(pieces: list[PreparedPiece], scheme: WeightingScheme) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Imaging weights of the first pass of the first piece, and the sums."""
    nlane = pieces[0].block.passes[0].weight.shape[1]
    ndest = 1 if scheme.continuum else nlane
    if not scheme.needs_density:
        sums = apply_weights(pieces, scheme, GEOMETRY, None, None, ndest)
    else:
        density, total = local_density(pieces, scheme, GEOMETRY, nlane)
        sums = apply_weights(pieces, scheme, GEOMETRY, density, density_factors(scheme, density, total), ndest)
    return pieces[0].block.passes[0].weight.astype(np.float64), sums


def scheme(name: str, robust: float = 0.5, *, continuum: bool = False, bandwidth: float = 0.0) -> WeightingScheme:
    return WeightingScheme(name, robust, continuum, bandwidth)


BOTH_HANDS = 0.5
"""tclean's cubes sum the densities of both hands, so that their uniform weights are half of a cell's share."""
CLUSTERED = np.array([[3.1, 2.0], [2.9, 2.2], [3.0, 1.8], [-7.0, 4.0]])
WEIGHTS = np.array([[1.0], [2.0], [3.0], [4.0]])


def test_natural_weights_are_those_of_the_data() -> None:
    w, sums = weighted([piece(CLUSTERED, WEIGHTS)], scheme("natural"))
    assert np.array_equal(w, WEIGHTS)
    assert sums[:, 0].tolist() == [10.0, 10.0, 4.0]


def test_uniform_weights_share_a_cell_by_natural_weight() -> None:
    w, sums = weighted([piece(CLUSTERED, WEIGHTS)], scheme("uniform"))
    assert w[:, 0] == pytest.approx(np.array([1 / 6, 2 / 6, 3 / 6, 1.0]) * BOTH_HANDS)
    assert sums[0, 0] == pytest.approx(2.0 * BOTH_HANDS)
    assert sums[1, 0] == pytest.approx(((1 + 2 + 3) / 36 + 1 / 4) * BOTH_HANDS**2)


def test_briggs_weights_follow_the_formula_of_his_thesis() -> None:
    w, _ = weighted([piece(CLUSTERED, WEIGHTS)], scheme("briggs", 0.5))
    f2 = (5 * 10**-0.5) ** 2 / (2 * (6.0**2 + 4.0**2) / (2 * 10.0))
    assert w[:, 0] == pytest.approx([1 / (1 + 6 * f2), 2 / (1 + 6 * f2), 3 / (1 + 6 * f2), 4 / (1 + 4 * f2)])


def test_bandwidth_taper_divides_the_density_where_channels_smear_over_cells() -> None:
    w, _ = weighted([piece(CLUSTERED, WEIGHTS)], scheme("briggsbwtaper", 0.5, bandwidth=0.3))
    f2 = (5 * 10**-0.5) ** 2 / (2 * (6.0**2 + 4.0**2) / (2 * 10.0))
    n = 0.3 * np.hypot(CLUSTERED[:, 0], CLUSTERED[:, 1])
    taper = np.where(n + 0.5 < 1.5, (4 - n) / (4 - 2 * n), n + 0.5)
    density = np.array([6.0, 6.0, 6.0, 4.0])
    assert w[:, 0] == pytest.approx(WEIGHTS[:, 0] / (1 + density * f2 / taper), rel=1e-5)


def test_a_visibility_and_a_conjugate_one_share_a_cell() -> None:
    w, _ = weighted([piece(np.array([[5.0, 3.0], [-5.0, -3.0]]), np.ones((2, 1)))], scheme("uniform"))
    assert w[:, 0] == pytest.approx([0.5 * BOTH_HANDS] * 2)


def test_cells_are_centred_on_their_uv_for_cubes_and_begin_there_for_continuum_images() -> None:
    pair = np.array([[3.4, 2.0], [3.6, 2.0]])
    rounded, _ = weighted([piece(pair, np.ones((2, 1)))], scheme("uniform"))
    truncated, _ = weighted([piece(pair, np.ones((2, 1)))], scheme("uniform", continuum=True))
    assert rounded[:, 0] == pytest.approx([BOTH_HANDS] * 2)
    assert truncated[:, 0] == pytest.approx([0.5, 0.5])


def test_channels_have_densities_of_their_own_in_cubes_and_one_together_in_continuum_images() -> None:
    two = np.array([[1.0, 3.0]])
    cube, sums = weighted([piece(np.array([[4.0, 4.0]]), two)], scheme("uniform"))
    assert cube[0] == pytest.approx([BOTH_HANDS] * 2)
    assert sums.shape == (3, 2)
    together, sums = weighted([piece(np.array([[4.2, 4.2]]), two)], scheme("uniform", continuum=True))
    assert together[0] == pytest.approx([0.25, 0.75])
    assert sums[:, 0] == pytest.approx([1.0, 1 / 16 + 3 / 16, 2.0])


def test_visibilities_without_weight_or_beyond_the_grid_get_none() -> None:
    outside = np.array([[3.0, 3.0], [3.0, 3.0], [40.0, 0.0]])
    w, sums = weighted([piece(outside, np.array([[1.0], [0.0], [1.0]]))], scheme("uniform"))
    assert w[:, 0].tolist() == [BOTH_HANDS, 0.0, 0.0]
    assert sums[2, 0] == 1.0


def test_noise_response_scales_the_noise_and_not_the_weights() -> None:
    full = weighted([piece(CLUSTERED, WEIGHTS)], scheme("briggs"))[1]
    half = weighted([piece(CLUSTERED, WEIGHTS, response=0.5)], scheme("briggs"))[1]
    assert half[0] == full[0]
    assert half[1] == pytest.approx(0.5 * full[1])


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), robust=st.floats(-2.0, 2.0), cut=st.integers(1, 199))
def test_density_of_parts_adds_up_and_weights_are_those_of_plain_numpy(seed: int, robust: float, cut: int) -> None:
    generator = np.random.default_rng(seed)
    uv, w = generator.uniform(-14, 14, (200, 2)), generator.uniform(0.1, 2.0, (200, 1))
    parts = [piece(uv[:cut], w[:cut]), piece(uv[cut:], w[cut:])]
    briggs = scheme("briggs", robust)
    got, _ = weighted(parts, briggs)
    density = np.zeros((N, N))
    for sign in (1, -1):
        cells = np.floor(sign * uv + N // 2 + 0.5).astype(int)
        np.add.at(density, (cells[:, 1], cells[:, 0]), w[:, 0])
    f2 = (5 * 10**-robust) ** 2 / ((density**2).sum() / (2 * w.sum()))
    cells = np.floor(uv + N // 2 + 0.5).astype(int)
    expected = w[:, 0] / (1 + density[cells[:, 1], cells[:, 0]] * f2)
    assert got[:, 0] == pytest.approx(expected[:cut], rel=1e-5)


def test_fractional_bandwidth_is_that_of_the_whole_cube() -> None:
    freq_hz = np.linspace(1.0e9, 1.2e9, 11)
    axis = SpectralAxis(freq_hz, np.full(11, 2e7), "LSRK", 0.0)
    assert make_scheme("briggsbwtaper", 0.5, axis, continuum=False).fractional_bandwidth == pytest.approx(0.4 / 2.2)
    assert make_scheme("briggs", 0.5, axis, continuum=False).fractional_bandwidth == 0.0
    assert not make_scheme("natural", 0.5, axis, continuum=False).needs_density
