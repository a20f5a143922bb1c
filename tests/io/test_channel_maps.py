"""Channel maps: which panels, labels and beams a figure holds, and that a PNG comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.products import GEOMETRY, beams, frequency_axis, optical_axis, write_cube

from radps_mpi.errors import DataError, StorageError
from radps_mpi.io import channel_maps
from radps_mpi.io.channel_maps import draw_channel_maps


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures drawn, in order."""
    figures: list[Any] = []
    save = channel_maps._save

    def keep(figure: Any, path: Path) -> None:
        figures.append(figure)
        save(figure, path)

    monkeypatch.setattr(channel_maps, "_save", keep)
    return figures


def texts(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.texts]


def panels(figure: Any) -> list[Any]:
    return [axes for axes in figure.axes if axes.images and axes.texts]


def test_every_channel_has_a_panel_with_its_velocity_and_beam(tmp_path: Path, drawn: list[Any]) -> None:
    write_cube(tmp_path / "cube.fits", axis=optical_axis(), beams=beams(7, [3]), blank=[3])
    draw_channel_maps(tmp_path / "cube.fits", tmp_path / "maps.png")
    axes = panels(drawn[0])
    assert [texts(a)[0].splitlines()[0] for a in axes] == [f"{v}.0 km/s" for v in range(1600, 1635, 5)]
    assert ["blank" in texts(a)[0] for a in axes] == [False, False, False, True, False, False, False]
    assert [len(a.patches) for a in axes] == [1, 1, 1, 0, 1, 1, 1]
    ellipse = axes[0].patches[0]
    assert (ellipse.height, ellipse.width, ellipse.angle) == pytest.approx((52 / 13, 47 / 13, 4.5), rel=1e-5)
    assert (tmp_path / "maps.png").read_bytes().startswith(b"\x89PNG")


def test_velocities_of_a_frequency_axis_are_radio_velocities(tmp_path: Path, drawn: list[Any]) -> None:
    write_cube(tmp_path / "cube.fits")
    draw_channel_maps(tmp_path / "cube.fits", tmp_path / "maps.png", title="NGC 5921")
    expected = [f"{v / 1e3:.1f} km/s" for v in frequency_axis().radio_velocity_m_s()]
    assert [texts(a)[0] for a in panels(drawn[0])] == expected
    assert drawn[0].get_suptitle() == "NGC 5921"


def test_a_long_cube_is_sampled_evenly_from_first_to_last(tmp_path: Path, drawn: list[Any]) -> None:
    axis = frequency_axis(101)
    write_cube(tmp_path / "cube.fits", axis=axis)
    draw_channel_maps(tmp_path / "cube.fits", tmp_path / "maps.png", max_panels=11, zoom=2.0)
    shown = panels(drawn[0])
    assert [texts(a)[0] for a in shown] == [f"{v / 1e3:.1f} km/s" for v in axis.radio_velocity_m_s()[::10]]
    low, high = shown[0].get_xlim()
    assert high - low == pytest.approx(GEOMETRY.nx / 2)
    assert low < GEOMETRY.nx // 2 < high


def test_a_source_is_contoured_from_three_times_the_noise(tmp_path: Path, drawn: list[Any]) -> None:
    from support.products import plane

    write_cube(tmp_path / "cube.fits", axis=frequency_axis(1))
    draw_channel_maps(tmp_path / "cube.fits", tmp_path / "maps.png")
    sigma = 1.4826 * np.median(np.abs(plane(0, GEOMETRY.shape) - np.median(plane(0, GEOMETRY.shape))))
    (contours,) = [c for c in panels(drawn[0])[0].collections if hasattr(c, "levels")]
    np.testing.assert_allclose(contours.levels[:3], [-3 * sigma, 3 * sigma, 6 * sigma], rtol=1e-6)


def test_a_cube_without_data_and_a_place_without_a_directory_are_refused(tmp_path: Path) -> None:
    write_cube(tmp_path / "blank.fits", blank=range(7))
    with pytest.raises(DataError, match="nothing to draw"):
        draw_channel_maps(tmp_path / "blank.fits", tmp_path / "maps.png")
    write_cube(tmp_path / "cube.fits")
    with pytest.raises(StorageError, match="No such file"):
        draw_channel_maps(tmp_path / "cube.fits", tmp_path / "nowhere" / "maps.png")
    with pytest.raises(ValueError, match="at least 1"):
        draw_channel_maps(tmp_path / "cube.fits", tmp_path / "maps.png", zoom=0.5)
