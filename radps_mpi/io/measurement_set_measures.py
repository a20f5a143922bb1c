"""The tables of the Earth's rotation and of observatories that python-casacore converts frequency frames with."""

from __future__ import annotations

from pathlib import Path

_EARTH_ROTATION_TABLES = ("IERSeop2000", "IERSpredict2000")
"""Measured and predicted values of UT1 - UTC and of the pole."""


def casacore_folder() -> Path:
    """Where python-casacore is installed; ImportError if it isn't."""
    import casacore.tables

    return Path(casacore.tables.__file__).parents[1]


def measures_folder() -> Path:
    """The folder of measures tables that python-casacore brings along.

    Raises
    ------
    FileNotFoundError
        If there is none: conversions between frames would fail.
    """
    folder = casacore_folder() / "data" / "geodetic"
    if not folder.is_dir():
        raise FileNotFoundError(folder)
    return folder


def earth_rotation_until_mjd() -> tuple[float, float]:
    """Last day (MJD, UTC) of the measured and of the predicted Earth rotation; later times use UT1 = UTC."""
    from casacore.tables import table

    folder = measures_folder()
    last = []
    for name in _EARTH_ROTATION_TABLES:
        with table(str(folder / name), ack=False, lockoptions="usernoread") as rotation:
            last.append(float(rotation.getcell("MJD", rotation.nrows() - 1)))
    return last[0], last[1]
