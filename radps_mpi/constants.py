"""Physical and unit constants, each once, with its unit and source."""

from __future__ import annotations

import math

SPEED_OF_LIGHT_M_S = 299_792_458.0
"""Speed of light in vacuum, m/s: exact (SI definition, CGPM 1983)."""

ARCSEC_RAD = math.pi / (180.0 * 3600.0)
"""One arcsecond in radians."""

DEG_RAD = math.pi / 180.0
"""One degree in radians."""

SECONDS_PER_DAY = 86_400.0
"""Seconds in one day of UTC without leap seconds; MeasurementSet times are MJD in these seconds."""

MJD_OF_UNIX_EPOCH_S = 3_506_716_800.0
"""MeasurementSet time (MJD in seconds, UTC) of 1970-01-01T00:00:00."""

FWHM_PER_SIGMA = math.sqrt(8.0 * math.log(2.0))
"""Full width at half maximum of a gaussian of unit standard deviation."""

MAD_TO_SIGMA = 1.4826
"""Standard deviation of a normal distribution per median absolute deviation: 1/Phi^-1(3/4)."""
