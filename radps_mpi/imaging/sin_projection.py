"""Sky to pixels in the orthographic (SIN) projection.

Calabretta & Greisen, A&A 395, 1077 (2002), section 5.1.5, with xi = eta = 0.
"""

from __future__ import annotations

import math

from radps_mpi.data.geometry import ImageGeometry


def pixel_of(geometry: ImageGeometry, ra_rad: float, dec_rad: float) -> tuple[float, float] | None:
    """Zero-based (x, y), fractional, of a direction in the image's own frame; None on the far hemisphere."""
    delta = ra_rad - geometry.ra_rad
    sin_dec, cos_dec = math.sin(dec_rad), math.cos(dec_rad)
    sin_dec0, cos_dec0 = math.sin(geometry.dec_rad), math.cos(geometry.dec_rad)
    if sin_dec * sin_dec0 + cos_dec * cos_dec0 * math.cos(delta) <= 0.0:
        return None
    east = cos_dec * math.sin(delta)
    north = sin_dec * cos_dec0 - cos_dec * sin_dec0 * math.cos(delta)
    cy, cx = geometry.centre
    return cx - east / geometry.cell_x_rad, cy + north / geometry.cell_y_rad


def to_frame(ra_rad: float, dec_rad: float, frame: str, wanted: str) -> tuple[float, float]:
    """Longitude and latitude, radians, of ``frame`` (J2000, ICRS, B1950, GALACTIC) in ``wanted`` (J2000 or ICRS)."""
    if frame == wanted:
        return ra_rad, dec_rad
    from astropy import units
    from astropy.coordinates import SkyCoord

    names = {"J2000": "fk5", "ICRS": "icrs", "B1950": "fk4", "GALACTIC": "galactic"}
    there = SkyCoord(ra_rad * units.rad, dec_rad * units.rad, frame=names[frame]).transform_to(names[wanted])
    return float(there.spherical.lon.rad), float(there.spherical.lat.rad)
