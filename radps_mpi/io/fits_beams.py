"""The BEAMS table: one restoring beam per channel, as CASA writes and reads them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from radps_mpi.constants import ARCSEC_RAD
from radps_mpi.data.beam import TINY_BEAM, Beam
from radps_mpi.io.fits_cards import FitsValue, card, padded, with_checksums, word_sum

_ROW = np.dtype([("BMAJ", ">f4"), ("BMIN", ">f4"), ("BPA", ">f4"), ("CHAN", ">i4"), ("POL", ">i4")])
"""casacore refuses float64 columns here. CHAN and POL count from zero."""

_COLUMNS = (
    ("BMAJ", "1E", "arcsec"), ("BMIN", "1E", "arcsec"), ("BPA", "1E", "deg"), ("CHAN", "1J", ""), ("POL", "1J", ""),
)


def beams_table(beams: Sequence[Beam]) -> bytes:
    """The bytes of the whole extension: header with checksums, rows, padding. Null beams become tiny ones."""
    rows = np.zeros(len(beams), _ROW)
    for chan, fitted in enumerate(beams):
        beam = TINY_BEAM if fitted.is_null else fitted
        rows[chan] = (beam.major_rad / ARCSEC_RAD, beam.minor_rad / ARCSEC_RAD, math.degrees(beam.pa_rad), chan, 0)
    data = rows.tobytes().ljust(padded(rows.nbytes), b"\0")
    return with_checksums(_cards(len(beams)), word_sum(data)) + data


def beams_table_bytes(nchan: int) -> int:
    """Size of the extension for ``nchan`` channels."""
    return len(with_checksums(_cards(nchan), 0)) + padded(nchan * _ROW.itemsize)


def _cards(nchan: int) -> list[str]:
    values: list[tuple[str, FitsValue]] = [
        ("XTENSION", "BINTABLE"), ("BITPIX", 8), ("NAXIS", 2), ("NAXIS1", _ROW.itemsize), ("NAXIS2", nchan),
        ("PCOUNT", 0), ("GCOUNT", 1), ("TFIELDS", len(_COLUMNS)),
    ]
    for i, (name, form, unit) in enumerate(_COLUMNS, 1):
        values += [(f"TTYPE{i}", name), (f"TFORM{i}", form)] + ([(f"TUNIT{i}", unit)] if unit else [])
    values += [("EXTNAME", "BEAMS"), ("EXTVER", 1), ("NCHAN", nchan), ("NPOL", 1)]
    return [text for keyword, value in values for text in card(keyword, value)]
