"""Channel maps: a cube's planes side by side, as a PNG."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radps_mpi.constants import MAD_TO_SIGMA, SPEED_OF_LIGHT_M_S
from radps_mpi.errors import DataError, StorageError

_PANEL_INCHES = 2.0
_CONTOUR_SIGMA = (-3.0, 3.0, 6.0, 12.0, 24.0, 48.0)


def draw_channel_maps(
    cube_path: str | os.PathLike[str],
    png_path: str | os.PathLike[str],
    *,
    max_panels: int = 48,
    zoom: float = 1.0,
    title: str | None = None,
) -> None:
    """Draw up to ``max_panels`` channels of a FITS cube, evenly chosen, on one colour scale.

    Each panel shows the radio or optical velocity (km/s; the frequency if there is no rest frequency), the beam's
    ellipse, and contours at -3, 3, 6, 12, ... times the noise, which is taken from the median absolute deviation of the
    planes shown. The lower left panel carries the sky coordinates. ``zoom`` > 1 shows the central 1/zoom of each side.

    Raises
    ------
    DataError
        If the cube can't be read.
    StorageError
        If the PNG can't be written.
    """
    from matplotlib.figure import Figure

    from radps_mpi.io.fits_reader import count_channels, read_cube

    if max_panels < 1 or not zoom >= 1.0:
        raise ValueError(f"max_panels {max_panels} and zoom {zoom} must be at least 1")
    nchan = count_channels(cube_path)
    shown = np.unique(np.linspace(0, nchan - 1, min(nchan, max_panels)).round().astype(int))
    planes, header = read_cube(cube_path, shown.tolist())
    if not np.isfinite(planes).any():
        raise DataError(f"{os.fspath(cube_path)}: all planes are blank, so there is nothing to draw")
    layout = _Layout.of(len(shown), *planes.shape[-2:])
    figure = Figure(figsize=(layout.width, layout.height), dpi=110)
    labels = [_labels(header, nchan)[chan] for chan in shown]
    _draw_panels(figure, layout, planes, labels, header, _beams(cube_path, header, nchan)[shown], zoom)
    figure.suptitle(title if title is not None else str(header.get("OBJECT", "")), fontsize=13)
    _save(figure, Path(png_path))


@dataclass(frozen=True, slots=True)
class _Layout:
    """A grid of panels in inches: 0.9 left, 1.1 right for the colour bar, 0.6 below, 0.5 above."""

    nrow: int
    ncol: int
    panel_width: float
    panel_height: float

    @classmethod
    def of(cls, npanel: int, ny: int, nx: int) -> _Layout:
        ncol = min(npanel, math.ceil(math.sqrt(npanel * 4 / 3)))
        flat = min(max(ny / nx, 0.5), 2.0)
        return cls(math.ceil(npanel / ncol), ncol, _PANEL_INCHES, _PANEL_INCHES * flat)

    @property
    def width(self) -> float:
        return self.ncol * self.panel_width + 2.0

    @property
    def height(self) -> float:
        return self.nrow * self.panel_height + 1.1

    def grid(self, figure: Any) -> Any:
        right, top = 1.0 - 1.1 / self.width, 1.0 - 0.5 / self.height
        return figure.add_gridspec(self.nrow, self.ncol, left=0.9 / self.width, right=right, bottom=0.6 / self.height,
                                   top=top, wspace=0.03, hspace=0.03)

    def bar(self, figure: Any) -> Any:
        return figure.add_axes((1.0 - 0.95 / self.width, 0.6 / self.height, 0.15 / self.width, 1.0 - 1.1 / self.height))


def _draw_panels(
    figure: Any, layout: _Layout, planes: NDArray[np.float32], labels: list[str], header: Any,
    beams_deg: NDArray[np.float64], zoom: float,
) -> None:
    from astropy.wcs import WCS

    wcs = WCS(_celestial_only(header))
    sigma = _noise(planes)
    low, high = _colour_range(planes, sigma)
    grid, corner = layout.grid(figure), (layout.nrow - 1) * layout.ncol
    for i, plane in enumerate(planes):
        axes = figure.add_subplot(grid[i], **({"projection": wcs} if i == corner else {}))
        picture = axes.imshow(plane, origin="lower", cmap="inferno", vmin=low, vmax=high, interpolation="nearest")
        _frame(axes, plane.shape, zoom, sky=i == corner)
        _contour(axes, plane, sigma)
        blank = not np.isfinite(plane).any()
        text = f"{labels[i]}\nblank" if blank else labels[i]
        axes.text(0.04, 0.96, text, transform=axes.transAxes, color="0.3" if blank else "white", fontsize=7, va="top")
        _draw_beam(axes, header, beams_deg[i])
    bar = layout.bar(figure)
    figure.colorbar(picture, cax=bar).ax.tick_params(labelsize=7)
    bar.set_title(str(header.get("BUNIT", "")), fontsize=7)


def _celestial_only(header: Any) -> Any:
    """A header of the two sky axes alone: astropy's WCS then neither warns about nor corrects spectral keywords."""
    from astropy.io import fits

    wanted = [f"{name}{i}" for i in (1, 2) for name in ("NAXIS", "CTYPE", "CRVAL", "CDELT", "CRPIX", "CUNIT")]
    wanted += ["PC1_1", "PC1_2", "PC2_1", "PC2_2", "RADESYS", "EQUINOX", "LONPOLE", "LATPOLE"]
    return fits.Header([("NAXIS", 2), *((key, header[key]) for key in wanted if key in header)])


def _labels(header: Any, n: int) -> list[str]:
    """Velocity of each of ``n`` channels, km/s, in the convention of the axis."""
    kind = str(header.get("CTYPE3", "")).strip()
    values = header.get("CRVAL3", 0.0) + header.get("CDELT3", 1.0) * (np.arange(n) + 1 - header.get("CRPIX3", 1.0))
    rest_hz = float(header.get("RESTFRQ", 0.0))
    if kind == "FREQ" and rest_hz > 0.0:
        values = SPEED_OF_LIGHT_M_S * (1.0 - values / rest_hz)
    elif kind == "FREQ":
        return [f"{value / 1e6:.3f} MHz" for value in values]
    elif kind not in ("VOPT", "VRAD"):
        return [f"channel {i}" for i in range(n)]
    return [f"{value / 1e3:.1f} km/s" for value in values]


def _beams(path: str | os.PathLike[str], header: Any, nchan: int) -> NDArray[np.float64]:
    """(nchan, 3): major and minor axis and position angle in degrees; zeros where there is no beam to speak of."""
    from astropy.io import fits

    beams = np.zeros((nchan, 3))
    if header.get("CASAMBM") is True:
        table = fits.getdata(path, "BEAMS")
        rows = np.stack([table["BMAJ"] / 3600.0, table["BMIN"] / 3600.0, table["BPA"]], axis=1)
        beams[table["CHAN"]] = rows
    elif "BMAJ" in header:
        beams[:] = (header["BMAJ"], header["BMIN"], header.get("BPA", 0.0))
    return beams


def _noise(planes: NDArray[np.float32]) -> float:
    values = planes[np.isfinite(planes)]
    return float(MAD_TO_SIGMA * np.median(np.abs(values - np.median(values))))


def _colour_range(planes: NDArray[np.float32], sigma: float) -> tuple[float, float]:
    high = float(np.nanmax(planes))
    low = max(float(np.nanmin(planes)), -3.0 * sigma) if sigma > 0.0 else float(np.nanmin(planes))
    return low, high if high > low else low + 1.0


def _frame(axes: Any, shape: tuple[int, ...], zoom: float, *, sky: bool) -> None:
    ny, nx = shape
    axes.set_facecolor("0.85")
    axes.set_xlim(nx // 2 - nx / (2 * zoom) - 0.5, nx // 2 + nx / (2 * zoom) - 0.5)
    axes.set_ylim(ny // 2 - ny / (2 * zoom) - 0.5, ny // 2 + ny / (2 * zoom) - 0.5)
    if not sky:
        axes.set_xticks([])
        axes.set_yticks([])
        return
    for i, name in enumerate(("right ascension", "declination")):
        coordinate = axes.coords[i]
        coordinate.set_axislabel(name, fontsize=7, minpad=0.6)
        coordinate.set_ticklabel(size=6, exclude_overlapping=True)
        coordinate.set_ticks(number=3, color="white")


def _contour(axes: Any, plane: NDArray[np.float32], sigma: float) -> None:
    levels = [k * sigma for k in _CONTOUR_SIGMA]
    if sigma > 0.0 and min(plane.shape) > 1 and np.nanmax(plane, initial=-np.inf) > levels[1]:
        styles = ["dotted" if level < 0 else "solid" for level in levels]
        axes.contour(plane, levels=levels, colors="white", linewidths=0.4, alpha=0.7, linestyles=styles)


def _draw_beam(axes: Any, header: Any, beam_deg: NDArray[np.float64]) -> None:
    """The half-power ellipse in the lower left corner; east is left, so position angles turn anticlockwise."""
    from matplotlib.patches import Ellipse

    cell_deg = abs(float(header["CDELT2"]))
    major, minor, pa_deg = beam_deg[0] / cell_deg, beam_deg[1] / cell_deg, beam_deg[2]
    (x0, x1), (y0, y1) = axes.get_xlim(), axes.get_ylim()
    if not 0.1 < major < (y1 - y0) / 2:
        return
    centre = (x0 + major / 2 + 0.04 * (x1 - x0), y0 + major / 2 + 0.04 * (y1 - y0))
    axes.add_patch(Ellipse(centre, minor, major, angle=pa_deg, facecolor="0.8", edgecolor="black", linewidth=0.5))


def _save(figure: Any, path: Path) -> None:
    partial = path.with_name(f"{path.name}.partial")
    try:
        figure.savefig(partial, format="png")
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StorageError(f"{path}: cannot be written ({error.strerror or error})") from error
