"""Gridding and degridding against direct Fourier sums, at the accuracy asked for."""

from __future__ import annotations

import numpy as np
import pytest

from radps_mpi.constants import SPEED_OF_LIGHT_M_S
from radps_mpi.data.geometry import ImageGeometry
from radps_mpi.data.visibilities import VisibilityPass
from radps_mpi.errors import UsageError
from radps_mpi.imaging.fourier import good_size
from radps_mpi.imaging.gridding import Gridder

CELLS = 1.0e-5, 1.3e-5
NARROW, WIDE = 1e-6, 1e-2


def geometry(nx: int, ny: int) -> ImageGeometry:
    return ImageGeometry(nx, ny, *CELLS, 0.0, 0.0)


def observation(nchan: int, step: float, nrow: int = 120) -> tuple[np.ndarray, VisibilityPass]:
    """Baselines all over the uv plane that the cells sample, and noise on them."""
    rng = np.random.default_rng(7)
    freq_hz = 1.4e9 * (1.0 + step * np.arange(nchan))
    longest = 0.5 * SPEED_OF_LIGHT_M_S / freq_hz.max() / np.array([*CELLS, 1e-5])
    vis = rng.standard_normal((nrow, 2, nchan)).astype(np.float32)
    weight = rng.uniform(0.5, 2.0, (nrow, nchan)).astype(np.float32)
    return rng.uniform(-1, 1, (nrow, 3)) * longest, VisibilityPass(vis, weight, freq_hz, rng.uniform(0.9999, 1, nrow))


def phases(where: ImageGeometry, uvw_m: np.ndarray, p: VisibilityPass, chan: int) -> tuple[np.ndarray, np.ndarray]:
    """exp(2 pi i v m) and exp(2 pi i u l): (nrow, ny), (nrow, nx)."""
    u, v, _ = uvw_m.T * p.row_scale * (p.freq_hz[chan] / SPEED_OF_LIGHT_M_S)
    return np.exp(2j * np.pi * np.outer(v, where.m_axis())), np.exp(2j * np.pi * np.outer(u, where.l_axis()))


def direct_dirty(where: ImageGeometry, uvw_m: np.ndarray, p: VisibilityPass) -> np.ndarray:
    images = []
    for chan in range(len(p.freq_hz)):
        in_v, in_u = phases(where, uvw_m, p, chan)
        sample = p.weight[:, chan].astype(np.float64) * (p.vis[:, 0, chan] + 1j * p.vis[:, 1, chan].astype(np.float64))
        images.append(((in_v.conj() * sample[:, None]).T @ in_u.conj()).real)
    return np.array(images)


def direct_vis(where: ImageGeometry, uvw_m: np.ndarray, p: VisibilityPass, model: np.ndarray) -> np.ndarray:
    """(nrow, 2, nchan); a single model plane stands for all channels."""
    predicted = []
    for chan in range(len(p.freq_hz)):
        in_v, in_u = phases(where, uvw_m, p, chan)
        predicted.append(((in_v @ model[chan % len(model)].astype(np.float64)) * in_u).sum(axis=1))
    return np.array([np.real(predicted), np.imag(predicted)]).transpose(2, 0, 1)


def dirty_of(gridder: Gridder, uvw_m: np.ndarray, p: VisibilityPass, psf: bool = False) -> np.ndarray:
    grid = gridder.new_grid()
    gridder.grid(uvw_m, p, grid, psf=psf)
    return gridder.to_dirty(grid)


def model_of(gridder: Gridder) -> np.ndarray:
    model = np.random.default_rng(2).standard_normal((gridder.nlane, *gridder.geometry.shape))
    return model.astype(gridder.dtype)


def vis_of(gridder: Gridder, uvw_m: np.ndarray, p: VisibilityPass, model: np.ndarray) -> np.ndarray:
    out = np.full(p.vis.shape, np.nan, gridder.dtype)
    gridder.degrid(gridder.from_model(model), uvw_m, p, out)
    return out


def errors_of(found: np.ndarray, expected: np.ndarray) -> tuple[float, float]:
    """Relative L2 error; largest error over the peak."""
    difference = found - expected
    return np.linalg.norm(difference) / np.linalg.norm(expected), np.abs(difference).max() / np.abs(expected).max()


CASES = [
    # kind, nlane, nchan, precision, epsilon, step, nx, ny
    ("lanes", 16, 16, "single", 1e-2, NARROW, 40, 64),
    ("lanes", 16, 16, "single", 1e-4, NARROW, 64, 50),
    ("lanes", 16, 16, "single", 1e-4, WIDE, 33, 51),
    ("lanes", 16, 16, "single", 1e-6, NARROW, 64, 50),
    ("lanes", 8, 8, "double", 1e-8, WIDE, 32, 45),
    ("lanes", 8, 8, "double", 1e-10, NARROW, 33, 50),
    ("lanes", 4, 4, "single", 1e-4, NARROW, 64, 50),
    ("lanes", 2, 2, "single", 1e-4, NARROW, 31, 50),
    ("lanes", 1, 1, "single", 1e-4, NARROW, 64, 50),
    ("plane", 1, 5, "single", 1e-4, WIDE, 64, 50),
    ("plane", 1, 5, "single", 1e-6, NARROW, 8, 9),
    ("plane", 1, 5, "double", 1e-10, WIDE, 33, 50),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_gridding_and_degridding_match_direct_sums_and_are_adjoint(case: tuple) -> None:
    kind, nlane, nchan, precision, epsilon, step, nx, ny = case
    where = geometry(nx, ny)
    uvw_m, p = observation(nchan, step)
    gridder = Gridder(where, nlane=nlane, epsilon=epsilon, precision=precision, kind=kind)
    dirty, model = dirty_of(gridder, uvw_m, p), model_of(gridder)
    expected = direct_dirty(where, uvw_m, p)
    l2, largest = errors_of(dirty, expected.sum(axis=0, keepdims=True) if kind == "plane" else expected)
    assert l2 < 0.5 * epsilon and largest < epsilon
    vis = vis_of(gridder, uvw_m, p, model)
    l2, largest = errors_of(vis, direct_vis(where, uvw_m, p, model))
    assert l2 < 0.5 * epsilon and largest < epsilon
    in_image = np.vdot(dirty.astype(np.float64), model)
    in_uv = np.sum(p.weight[:, None].astype(np.float64) * p.vis * vis)
    scale = np.linalg.norm(dirty) * np.linalg.norm(model)
    assert abs(in_image - in_uv) < {"single": 1e-6, "double": 1e-12}[precision] * scale


@pytest.mark.parametrize(("kind", "nlane"), [("lanes", 16), ("plane", 1)])
def test_point_spread_function_peaks_at_the_sum_of_weights(kind: str, nlane: int) -> None:
    gridder = Gridder(geometry(64, 50), nlane=nlane, kind=kind)
    uvw_m, p = observation(nlane if kind == "lanes" else 5, NARROW)
    psf = dirty_of(gridder, uvw_m, p, psf=True)
    sums = p.weight.sum(axis=0, dtype=np.float64) if kind == "lanes" else p.weight.sum(dtype=np.float64)
    assert psf[:, 25, 32] == pytest.approx(sums, rel=2e-5)
    assert np.abs(psf).max(axis=(1, 2)) == pytest.approx(psf[:, 25, 32])


def test_a_point_source_appears_where_it_is() -> None:
    where = geometry(64, 48)
    gridder = Gridder(where, nlane=16)
    uvw_m, p = observation(16, NARROW, nrow=400)
    model = np.zeros((16, 48, 64), np.float32)
    model[3, 10, 50] = 2.5
    vis = vis_of(gridder, uvw_m, p, model)
    p = VisibilityPass(vis, np.ones_like(p.weight), p.freq_hz, p.row_scale)
    dirty = dirty_of(gridder, uvw_m, p)
    assert np.unravel_index(dirty[3].argmax(), dirty[3].shape) == (10, 50)
    assert dirty[3, 10, 50] == pytest.approx(2.5 * 400, rel=1e-3)
    assert not dirty[2].any()


def test_baselines_beyond_the_grid_are_as_right_as_the_others() -> None:
    where = geometry(32, 32)
    uvw_m, p = observation(16, NARROW)
    gridder = Gridder(where, nlane=16)
    l2, _ = errors_of(dirty_of(gridder, 3.3 * uvw_m, p), direct_dirty(where, 3.3 * uvw_m, p))
    assert l2 < 1e-4


@pytest.mark.parametrize(("kind", "nlane"), [("lanes", 16), ("lanes", 8), ("lanes", 1), ("plane", 1)])
@pytest.mark.parametrize("size", [(64, 50), (200, 151)])
@pytest.mark.parametrize("fraction", [0.1, 0.4, 0.9])
def test_leaving_out_cells_that_no_baseline_reaches_changes_no_bit(
    kind: str, nlane: int, size: tuple[int, int], fraction: float
) -> None:
    where = geometry(*size)
    uvw_m, p = observation(nlane, WIDE)
    wavelengths = np.hypot(uvw_m[:, 0], uvw_m[:, 1]).max() * p.freq_hz.max() * p.row_scale.max() / SPEED_OF_LIGHT_M_S
    shrink = fraction * 0.5 / where.cell_x_rad / wavelengths
    whole, part = (Gridder(where, nlane=nlane, kind=kind, reach=r) for r in (None, shrink * wavelengths))
    assert np.prod(part.grid_shape) < np.prod(whole.grid_shape)
    assert np.array_equal(dirty_of(part, shrink * uvw_m, p), dirty_of(whole, shrink * uvw_m, p))
    model = model_of(whole)
    assert np.array_equal(vis_of(part, shrink * uvw_m, p, model), vis_of(whole, shrink * uvw_m, p, model))


def test_a_baseline_beyond_the_reach_is_an_error_and_never_a_wrong_image() -> None:
    where = geometry(200, 200)
    uvw_m, p = observation(16, NARROW)
    longest = np.hypot(uvw_m[:, 0], uvw_m[:, 1]).max()
    uvw_m *= 0.2 * SPEED_OF_LIGHT_M_S / (where.cell_x_rad * p.freq_hz[0] * longest)
    gridder = Gridder(where, nlane=16, reach=0.2 / where.cell_x_rad)
    uvw_m[17, 1] = 0.9 / where.cell_y_rad * SPEED_OF_LIGHT_M_S / p.freq_hz[0]
    for use in (lambda: dirty_of(gridder, uvw_m, p), lambda: vis_of(gridder, uvw_m, p, model_of(gridder))):
        with pytest.raises(ValueError, match="cells from the origin"):
            use()


def test_baselines_that_are_no_numbers_are_left_out() -> None:
    gridder = Gridder(geometry(64, 50), nlane=16)
    uvw_m, p = observation(16, NARROW)
    broken = uvw_m.copy()
    broken[5:8] = np.nan, np.inf, -np.inf
    rest = np.delete(np.arange(120), [5, 6, 7])
    kept = VisibilityPass(p.vis[rest], p.weight[rest], p.freq_hz, p.row_scale[rest])
    assert np.array_equal(dirty_of(gridder, broken, p), dirty_of(gridder, uvw_m[rest], kept))
    assert not vis_of(gridder, broken, p, model_of(gridder))[5:8].any()


def test_threads_and_reused_memory_do_not_change_a_bit() -> None:
    uvw_m, p = observation(16, WIDE)
    one, two = (Gridder(geometry(200, 150), nlane=16, threads=threads) for threads in (1, 2))
    dirty, model = dirty_of(one, uvw_m, p), model_of(one)
    vis = vis_of(one, uvw_m, p, model)
    used = two.from_model(model)
    two.release(used)
    assert np.array_equal(dirty_of(two, uvw_m, p), dirty)
    assert np.array_equal(vis_of(two, uvw_m, p, model), vis)
    assert one.identity == two.identity


@pytest.mark.parametrize("nlane", [8, 16])
def test_models_behind_the_last_lane_that_counts_may_be_left_out(nlane: int) -> None:
    gridder = Gridder(geometry(64, 50), nlane=nlane)
    uvw_m, p = observation(nlane, NARROW)
    model, lanes, out = model_of(gridder), np.array([0, 2, 4]), np.zeros(p.vis.shape, gridder.dtype)
    gridder.degrid(gridder.from_model(model[:5], lanes), uvw_m, p, out)
    assert np.array_equal(out[..., lanes], vis_of(gridder, uvw_m, p, model)[..., lanes])
    for planes, wanted in ((4, lanes), (5, None), (nlane + 1, lanes)):
        with pytest.raises(ValueError, match="model"):
            gridder.from_model(np.zeros((planes, 64, 50), np.float32), wanted)


def test_an_image_channel_has_the_same_bits_whatever_its_neighbours() -> None:
    gridder = Gridder(geometry(64, 50), nlane=16)
    uvw_m, p = observation(16, NARROW)
    alone = VisibilityPass(np.zeros_like(p.vis), np.zeros_like(p.weight), p.freq_hz * 1.2, p.row_scale)
    alone.vis[..., 9], alone.weight[:, 9], alone.freq_hz[9] = p.vis[..., 9], p.weight[:, 9], p.freq_hz[9]
    assert np.array_equal(dirty_of(gridder, uvw_m, alone)[9], dirty_of(gridder, uvw_m, p)[9])


def test_more_accuracy_than_the_precision_has_is_refused() -> None:
    with pytest.raises(UsageError, match="epsilon"):
        Gridder(geometry(64, 64), nlane=16, epsilon=1e-8, precision="single")
    with pytest.raises(UsageError, match="epsilon"):
        Gridder(geometry(64, 64), nlane=16, epsilon=0.1)
    with pytest.raises(UsageError, match="precision"):
        Gridder(geometry(64, 64), nlane=16, precision="half")


def test_arrays_of_the_wrong_shape_never_reach_the_kernels() -> None:
    gridder = Gridder(geometry(64, 64), nlane=16)
    uvw_m, p = observation(16, NARROW)
    with pytest.raises(ValueError, match="grid"):
        gridder.grid(uvw_m, p, np.zeros((4, 4, 2, 16), np.float32))
    with pytest.raises(ValueError, match="C-contiguous"):
        gridder.grid(np.asfortranarray(uvw_m), p, gridder.new_grid())
    with pytest.raises(ValueError, match="lanes"):
        gridder.grid(uvw_m, VisibilityPass(p.vis, p.weight, p.freq_hz[:8], p.row_scale), gridder.new_grid())


def test_good_sizes_are_even_and_as_cheap_as_any() -> None:
    assert [good_size(n) for n in (1, 11, 13.5, 601, 769, 1000)] == [2, 12, 16, 640, 784, 1024]
