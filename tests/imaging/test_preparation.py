"""Stokes I, phase rotation and image channels of visibilities whose values are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radps_mpi.constants import SPEED_OF_LIGHT_M_S
from radps_mpi.data.axis import SpectralAxis
from radps_mpi.data.geometry import ImageGeometry
from radps_mpi.errors import DataError
from radps_mpi.imaging.channel_map import map_channels, width_ratio
from radps_mpi.imaging.preparation import (
    Hands,
    PreparedPiece,
    RawPiece,
    continuum_map,
    parallel_hands,
    pointing,
    prepare_piece,
)
from radps_mpi.imaging.spectral_axis import NativeChannels

FREQ_HZ = 1e9 + 1e5 * np.arange(4)
NATIVE = NativeChannels(FREQ_HZ, np.full(4, 1e5), np.ones(1), np.ones(1))
GEOMETRY = ImageGeometry(64, 64, 1e-4, 1e-4, 1.0, 0.5)
BLANK = complex(math.nan, math.nan)


def raw(vis: np.ndarray, weight: np.ndarray, uvw_m: np.ndarray | None = None) -> RawPiece:
    nrow = vis.shape[2]
    uvw_m = np.zeros((nrow, 3)) if uvw_m is None else uvw_m
    return RawPiece(0, vis.astype(np.complex64), weight.astype(np.float32), uvw_m, np.zeros(nrow, np.int32))


def prepared(
    piece: RawPiece, hands: Hands, *, at: tuple[float, ...] = (0.0, 1.0, 2.0, 3.0), geometry: ImageGeometry = GEOMETRY,
    field_rad: tuple[float, float] = (1.0, 0.5), nlane: int = 4, width: float = 1.0,
) -> PreparedPiece:  # fmt: skip
    centres = 1e9 + 1e5 * np.array(at)
    axis = SpectralAxis(centres, np.full(len(at), width * 1e5), "LSRK", 0.0)
    mapping = map_channels(
        axis, 0, len(at), NATIVE, ratio=width_ratio(axis, NATIVE), interpolation="linear", binning="overlap"
    )
    return prepare_piece(piece, mapping, hands, pointing(*field_rad, geometry), geometry, nlane=nlane, with_density=False)


def vis_of(piece: PreparedPiece, index: int = 0) -> np.ndarray:
    v = piece.block.passes[index].vis
    return v[:, 0] + 1j * v[:, 1]


@pytest.mark.parametrize(
    ("correlations", "stokes", "expected"),
    [
        (("XX", "YY"), "I", (0, 1, False)),
        (("RR", "RL", "LR", "LL"), "I", (0, 3, False)),
        (("YY", "YX", "XY", "XX"), "pseudoI", (3, 0, True)),
        (("LL",), "I", (0, 0, True)),
        (("XY", "XX"), "I", (1, 1, True)),
        (("I", "V"), "I", (0, 0, True)),
    ],
)
def test_hands_are_found_among_the_correlations(correlations: tuple[str, ...], stokes: str, expected: tuple) -> None:  # type: ignore[type-arg]
    found = parallel_hands(correlations, stokes, "a.ms")
    assert (found.first, found.second, found.single_hand) == expected


def test_cross_hands_alone_are_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"a\.ms: correlations XY, YX hold no parallel hand"):
        parallel_hands(("XY", "YX"), "I", "a.ms")


def test_stokes_i_is_the_plain_mean_of_the_hands_with_the_mean_of_their_weights() -> None:
    vis = np.broadcast_to(np.array([2.0 + 1j, 4.0 - 3j])[None, :, None], (4, 2, 1))
    made = prepared(raw(vis, np.array([[[1.0], [3.0]]])), Hands(0, 1, False))
    assert vis_of(made) == pytest.approx(np.full((1, 4), 3.0 - 1j))
    assert made.block.passes[0].weight == pytest.approx(np.full((1, 4), 2.0))


def test_a_sample_with_one_hand_counts_for_pseudo_i_alone_at_half_its_weight() -> None:
    vis = np.ones((4, 2, 2), complex)
    vis[1, 0, 0] = BLANK
    vis[2, :, 1] = BLANK
    weight = np.array([[[2.0, 2.0], [4.0, 4.0]]])
    strict = prepared(raw(vis, weight), Hands(0, 1, False)).block.passes[0].weight
    pseudo = prepared(raw(vis, weight), Hands(0, 1, True)).block.passes[0].weight
    assert strict.tolist() == [[3.0, 0.0, 3.0, 3.0], [3.0, 3.0, 0.0, 3.0]]
    assert pseudo.tolist() == [[3.0, 2.0, 3.0, 3.0], [3.0, 3.0, 0.0, 3.0]]


def test_data_of_one_hand_weigh_half() -> None:
    made = prepared(raw(np.full((4, 1, 1), 5.0), np.array([[[6.0]]])), Hands(0, 0, True))
    assert vis_of(made)[0] == pytest.approx(np.full(4, 5.0))
    assert made.block.passes[0].weight[0] == pytest.approx(np.full(4, 3.0))


def test_interpolated_channel_needs_both_neighbours_and_an_aligned_one_none() -> None:
    vis = (np.arange(4.0)[:, None, None] + 1).astype(complex)
    vis[2] = BLANK
    made = prepared(raw(vis, np.ones((1, 1, 1))), Hands(0, 0, True), at=(0.5, 1.0, 1.5, 3.0))
    assert made.block.passes[0].weight[0].tolist() == [0.5, 0.5, 0.0, 0.5]
    assert vis_of(made)[0] == pytest.approx([1.5, 2.0, 0.0, 4.0])


def test_lanes_beyond_the_block_stay_empty() -> None:
    made = prepared(raw(np.ones((4, 1, 3)), np.ones((1, 1, 3))), Hands(0, 0, True), at=(0.0, 1.0), nlane=4)
    assert made.block.passes[0].weight[:, 2:].tolist() == [[0.0, 0.0]] * 3
    assert np.all(made.block.passes[0].freq_hz > 0)


def test_samples_beyond_the_images_uv_range_are_dropped_and_counted() -> None:
    limit_m = 0.5 / 1e-4 * SPEED_OF_LIGHT_M_S / 1e9
    uvw_m = np.array([[0.99 * limit_m, 0, 0], [0, 1.01 * limit_m, 0], [0, 0, 5 * limit_m]])
    made = prepared(raw(np.ones((4, 1, 3)), np.ones((1, 1, 3)), uvw_m), Hands(0, 0, True))
    assert (made.block.passes[0].weight > 0).all(axis=1).tolist() == [True, False, True]
    assert made.beyond == 4


def test_field_at_the_image_centre_is_left_as_it_is() -> None:
    turn = pointing(1.0, 0.5, GEOMETRY)
    assert turn.is_identity
    assert np.array_equal(turn.rotation, np.eye(3))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(ra=st.floats(-0.02, 0.02), dec=st.floats(-0.02, 0.02), seed=st.integers(0, 1000))
def test_source_at_the_image_centre_has_no_phase_after_turning(ra: float, dec: float, seed: int) -> None:
    """The exact three-dimensional phase of a source at the new centre, seen from the field's, turns to nothing."""
    field = (1.0 + ra, 0.5 + dec)
    uvw_m = np.random.default_rng(seed).uniform(-300.0, 300.0, (20, 3))
    l = math.cos(0.5) * math.sin(-ra)  # noqa: E741
    m = math.sin(0.5) * math.cos(field[1]) - math.cos(0.5) * math.sin(field[1]) * math.cos(-ra)
    n_1 = math.sqrt(1 - l * l - m * m) - 1
    phase = 2 * np.pi * (uvw_m @ [l, m, n_1])[None, :] * FREQ_HZ[:, None] / SPEED_OF_LIGHT_M_S
    made = prepared(raw(np.exp(1j * phase)[:, None, :], np.ones((1, 1, 20)), uvw_m), Hands(0, 0, True), field_rad=field)
    used = made.block.passes[0].weight > 0
    assert used.any()
    assert vis_of(made)[used] == pytest.approx(1.0, abs=2e-6)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(ra=st.floats(0.0, 6.28), dec=st.floats(-1.5, 1.5))
def test_rotation_keeps_lengths_and_takes_the_fields_axis_to_where_the_field_is(ra: float, dec: float) -> None:
    turn = pointing(ra, dec, GEOMETRY)
    assert turn.rotation @ turn.rotation.T == pytest.approx(np.eye(3), abs=1e-12)
    l, m, n = turn.rotation[:, 2]  # noqa: E741
    assert l == pytest.approx(math.cos(dec) * math.sin(ra - 1.0), abs=1e-12)
    assert m == pytest.approx(math.sin(dec) * math.cos(0.5) - math.cos(dec) * math.sin(0.5) * math.cos(ra - 1.0), abs=1e-12)
    assert l * l + m * m + n * n == pytest.approx(1.0, abs=1e-12)


def test_noise_response_is_that_of_interpolating_two_channels_and_of_sharing_one() -> None:
    one = raw(np.ones((4, 1, 1)), np.ones((1, 1, 1)))
    between = prepared(one, Hands(0, 0, True), at=(0.0, 1.5, 2.25))
    assert between.noise_response[0][0, :3] == pytest.approx([1.0, 0.5, 0.75**2 + 0.25**2])
    shared = prepared(one, Hands(0, 0, True), at=(1.5,), width=1.5)
    responses = [r[0, 0] for r, p in zip(shared.noise_response, shared.block.passes, strict=True) if p.weight[0, 0] > 0]
    assert responses == pytest.approx([0.75, 0.75], abs=1e-6)


def test_continuum_lanes_are_native_channels_at_their_own_frequency() -> None:
    moving = NativeChannels(FREQ_HZ, np.full(4, 1e5), np.array([1.0, 1.001]), np.array([1.0, 1.001]))
    (only,) = continuum_map(moving, 1, 3).passes
    assert only.lower.tolist() == [[1, 2], [1, 2]]
    assert only.freq_hz == pytest.approx(FREQ_HZ[1:3])
    assert only.row_scale.tolist() == [1.0, 1.001]
