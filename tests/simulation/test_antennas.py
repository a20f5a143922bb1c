"""Antennas: configuration files as CASA's simulator reads them, and generated arrays."""

from __future__ import annotations

import numpy as np
import pytest

from radps_mpi.errors import DataError, UsageError
from radps_mpi.simulation.antennas import Antennas, generate, parse_configuration
from radps_mpi.simulation.earth import longitude_latitude

ALMA = (2225142.180, -5440307.370, -2481029.852)
LOCAL = """# observatory=ALMA
# coordsys=LOC (local tangent plane)
# x y z diam pad#
0.0 0.0 0.0 12. A001
300.0 0.0 0.0 12. A002
# 1.0 2.0 3.0 12. A999
0.0 400.0 0.0 7. A003
"""


def baselines_m(antennas: Antennas) -> np.ndarray:
    first, second = np.triu_indices(len(antennas.names), 1)
    return np.linalg.norm(antennas.position_itrf_m[second] - antennas.position_itrf_m[first], axis=1)


def test_local_coordinates_are_east_north_up_of_the_site() -> None:
    read = parse_configuration(LOCAL, "a.cfg", ALMA)
    assert read.names == ("A001", "A002", "A003")
    np.testing.assert_array_equal(read.dish_m, [12.0, 12.0, 7.0])
    np.testing.assert_allclose(baselines_m(read), [300.0, 400.0, 500.0])
    east, north = (read.position_itrf_m[k] - read.position_itrf_m[0] for k in (1, 2))
    assert east[2] == pytest.approx(0.0, abs=1e-9), "east doesn't change the distance from the equator"
    assert north[2] == pytest.approx(400.0 * np.cos(np.radians(-23.0236)), abs=0.1)


def test_itrf_coordinates_are_taken_as_they_are_with_and_without_saying_so() -> None:
    places = "".join(f"{ALMA[0] + k} {ALMA[1]} {ALMA[2]} 12\n" for k in (0, 100, 250))
    for text in ("# coordsys=XYZ\n" + places, places):
        read = parse_configuration(text, "a.cfg", (ALMA[0], ALMA[1] + 5e3, ALMA[2]))
        np.testing.assert_array_equal(read.position_itrf_m[:, 0], np.array([0, 100, 250]) + ALMA[0])
        assert read.names == ("A000", "A001", "A002")


@pytest.mark.parametrize(("text", "message"), [
    ("0 0 0 12 A1\n", "a.cfg: 1 antennas"),
    ("0 0 0 12 A1\n5 x 0 12 A2\n", "a.cfg: line 2"),
    ("0 0 0 12 A1\n5 5 0 A2\n", "a.cfg: line 2"),
    ("0 0 0 12 A1\n5 5 0 -12 A2\n", "a.cfg: line 2"),
    ("0 0 0 12 A1\n0 0 0 12 A2\n", "same place"),
    ("# coordsys=UTM\n0 0 0 12 A1\n5 5 0 12 A2\n", "coordsys=UTM is not supported"),
    (f"{-ALMA[0]} {ALMA[1]} {ALMA[2]} 12\n{-ALMA[0]} {ALMA[1] + 9} {ALMA[2]} 12\n", "4450 km from the telescope's site"),
    ("# coordsys=XYZ\n0 0 0 12 A1\n5 5 0 12 A2\n", "aren't on the Earth's surface"),
])
def test_files_that_cannot_be_meant_are_refused(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_configuration(text, "a.cfg", ALMA)


@pytest.mark.parametrize("layout", ["spiral", "ring"])
@pytest.mark.parametrize(("nantenna", "longest_m"), [(2, 100.0), (10, 300.0), (43, 500.0), (66, 16_000.0)])
def test_generated_arrays_have_the_size_asked_for_and_no_two_equal_baselines(
        layout: str, nantenna: int, longest_m: float) -> None:
    made = generate(layout, nantenna, longest_m, 12.0, 1, ALMA)
    length = baselines_m(made)
    assert len(length) == nantenna * (nantenna - 1) // 2
    assert length.max() == pytest.approx(longest_m, rel=1e-9)
    assert length.min() > 12.0
    assert nantenna == 2 or np.diff(np.sort(length)).min() > 0.0
    np.testing.assert_array_equal(made.position_itrf_m, generate(layout, nantenna, longest_m, 12.0, 1, ALMA).position_itrf_m)
    assert nantenna == 2 or not np.allclose(length, baselines_m(generate(layout, nantenna, longest_m, 12.0, 2, ALMA)))


def test_dishes_that_would_touch_are_refused() -> None:
    with pytest.raises(UsageError, match="don't fit"):
        generate("spiral", 60, 50.0, 12.0, 1, ALMA)


def test_longitude_and_latitude_of_the_observatories_are_the_published_ones() -> None:
    alma = np.degrees(longitude_latitude(ALMA))
    np.testing.assert_allclose(alma, [-67.7549, -23.0229], atol=2e-3)
    np.testing.assert_allclose(np.degrees(longitude_latitude((-1601185.365, -5041977.547, 3554875.870))),
                               [-107.6184, 34.0788], atol=2e-3)  # fmt: skip
