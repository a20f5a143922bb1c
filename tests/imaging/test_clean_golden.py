"""Minor cycles and cycle control together on real data, with transforms exact to 1e-5 instead of the package's."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from radps_mpi.constants import ARCSEC_RAD, DEG_RAD, SPEED_OF_LIGHT_M_S
from radps_mpi.data.beam import Beam
from radps_mpi.data.geometry import ImageGeometry
from radps_mpi.imaging import stopping
from radps_mpi.imaging.masks import region_mask
from radps_mpi.imaging.minor_cycle import MinorStop, hogbom, peak_in_mask, sidelobe_level

NPIX, CELL = 256, 15.0 * ARCSEC_RAD
GEOMETRY = ImageGeometry(NPIX, NPIX, CELL, CELL, 0.0, 0.0)
TRANSFORM = {
    "pixsize_x": CELL,
    "pixsize_y": CELL,
    "epsilon": 1e-5,
    "do_wgridding": False,
    "flip_u": True,
    "divide_by_n": False,
}


@dataclass(frozen=True)
class Channel:
    """Conjugated Stokes I visibilities of one channel, with Briggs weights that sum to 1."""

    uvw_m: NDArray[np.float64]
    freq_hz: NDArray[np.float64]
    vis: NDArray[np.complex64]
    weight: NDArray[np.float32]

    def image(self, vis: NDArray[np.complex64]) -> NDArray[np.float32]:
        import ducc0

        plane = ducc0.wgridder.vis2dirty(
            uvw=self.uvw_m, freq=self.freq_hz, vis=vis, wgt=self.weight, npix_x=NPIX, npix_y=NPIX, **TRANSFORM
        )
        return np.ascontiguousarray(plane.T)

    def residual(self, model: NDArray[np.float32]) -> NDArray[np.float32]:
        import ducc0

        predicted = ducc0.wgridder.dirty2vis(
            uvw=self.uvw_m, freq=self.freq_hz, dirty=np.ascontiguousarray(model.T), **TRANSFORM
        )
        return self.image(self.vis - predicted)


def briggs_weights(uvw_m: NDArray[np.float64], freq_hz: float, natural: NDArray[np.float64]) -> NDArray[np.float64]:
    """robust = 0.5, density on the image's own uv cells, of (u, v) and (-u, -v)."""
    uv_cells = uvw_m[:, :2] * freq_hz / SPEED_OF_LIGHT_M_S * NPIX * CELL
    cell = np.rint(NPIX / 2 - uv_cells).astype(int)
    partner = np.rint(NPIX / 2 + uv_cells).astype(int)
    density = np.zeros((NPIX, NPIX))
    np.add.at(density, tuple(cell.T), natural)
    np.add.at(density, tuple(partner.T), natural)
    f2 = (5.0 * 10.0**-0.5) ** 2 / ((density**2).sum() / (2.0 * natural.sum()))
    return natural / (1.0 + density[tuple(cell.T)] * f2)


def read_channels(path: Path) -> list[Channel]:
    tables = pytest.importorskip("casacore.tables")
    main = tables.table(str(path), ack=False)
    cross = main.getcol("ANTENNA1") != main.getcol("ANTENNA2")
    uvw_m, data = main.getcol("UVW")[cross], main.getcol("DATA")[cross]
    weight = main.getcol("WEIGHT")[cross].mean(axis=1)
    flag = (main.getcol("FLAG") | main.getcol("FLAG_ROW")[:, None, None])[cross].any(axis=2)
    freq_hz = tables.table(str(path / "SPECTRAL_WINDOW"), ack=False).getcol("CHAN_FREQ")[0]
    channels = []
    for c in range(5, 51):
        imaging = briggs_weights(uvw_m, freq_hz[c], np.where(flag[:, c], 0.0, weight))
        vis = np.where(flag[:, c], 0.0, data[:, c].mean(axis=1)).conj().astype(np.complex64)
        normalised = (imaging / imaging.sum()).astype(np.float32)
        channels.append(Channel(uvw_m, freq_hz[c : c + 1], vis[:, None], normalised[:, None]))
    return channels


@pytest.mark.golden
def test_ngc5921_takes_the_cycles_iterations_and_stop_of_tclean(shared: Path, dataset: Callable[[str], Path]) -> None:
    pytest.importorskip("ducc0")
    golden = json.loads((shared / "golden" / "ngc5921_briggs05_clean.json").read_text())
    channels = read_channels(dataset("ngc5921_src_contsub.ms"))
    mask = region_mask(golden["parameters"]["mask"], GEOMETRY)
    beams = [Beam(a * ARCSEC_RAD, b * ARCSEC_RAD, pa * DEG_RAD) for a, b, pa in golden["beams_arcsec_deg"]]
    psfs = [c.image(np.ones_like(c.vis)) for c in channels]
    residuals = [c.image(c.vis) for c in channels]
    models = [np.zeros(GEOMETRY.shape, np.float32) for _ in channels]
    n = len(channels)
    sidelobe = np.array([sidelobe_level(p, b, GEOMETRY) for p, b in zip(psfs, beams, strict=True)])
    assert sidelobe.max() == pytest.approx(0.2298, abs=1e-4)

    control = stopping.Control(niter=golden["parameters"]["niter"], threshold_jy=0.008)
    state = stopping.begin(control, n)
    while True:
        measured = stopping.Measured(
            peak_jy=np.array([peak_in_mask(r, mask) for r in residuals]),
            image_peak_jy=np.array([peak_in_mask(r) for r in residuals]),
            sidelobe=sidelobe,
            mask_pixels=np.full(n, int(mask.sum())),
            valid=np.ones(n, dtype=bool),
        )
        state = stopping.check(control, state, measured)
        if state.finished:
            break
        plan = stopping.plan_cycle(control, state, measured)
        iterations = np.zeros(n, dtype=np.int64)
        for c in np.flatnonzero(plan.active):
            models[c], result = hogbom(
                residuals[c],
                psfs[c],
                mask,
                gain=control.gain,
                cycle_threshold_jy=plan.cycle_threshold_jy[c],
                max_iterations=int(plan.max_iterations[c]),
                model_in=models[c],
            )
            assert result.reason is MinorStop.THRESHOLD
            iterations[c] = result.iterations
            residuals[c] = channels[c].residual(models[c])
        flux = np.array([m.sum(dtype=np.float64) for m in models])
        state = stopping.record_cycle(control, state, plan, iterations, flux)

    assert state.nmajordone == golden["nmajordone"] == 3
    assert int(state.overall_stop_code) == golden["stopcode"] == 2
    assert state.iterdone == pytest.approx(golden["iterdone"], rel=0.005)
    assert [r.cycle_threshold_jy for r in state.history] == pytest.approx([0.0, 0.01298, 0.008], abs=1e-5)
    assert state.history[1].iterations == pytest.approx(1325, abs=2)
    assert state.history[2].model_flux_jy == pytest.approx(3.952, rel=1e-3)
