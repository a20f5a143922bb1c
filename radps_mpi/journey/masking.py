"""The CLEAN mask of each channel, drawn where it is needed: it follows from the configuration, so it needs no storage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from radps_mpi.errors import DataError, UsageError
from radps_mpi.imaging.masks import UserMask, full_mask, mask_from_array, mask_from_pb
from radps_mpi.imaging.primary_beams import primary_beam
from radps_mpi.journey.describe import Description
from radps_mpi.parallel import on_root
from radps_mpi.parallel.types import Comm


def names_an_image(mask: tuple[str, ...]) -> bool:
    """Whether a ``mask`` parameter is the path of a FITS image instead of regions."""
    return len(mask) == 1 and mask[0].lower().endswith((".fits", ".fit", ".fits.gz"))


_LARGEST_HASHED_BYTES = 1 << 30
"""Of a mask image: to read a larger one would hold up the start of a run."""


def _told_apart(path: Path) -> str:
    """The hash of a file; of a large one size and time, by which it may be taken for another, but not another for it."""
    facts = path.stat()
    if facts.st_size > _LARGEST_HASHED_BYTES:
        return f"{facts.st_size} bytes of {facts.st_mtime_ns}"
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


class MaskSource:
    """Masks (ny, nx) uint8 per channel: regions, a mask image, the primary beam above a level, or every pixel."""

    def __init__(self, comm: Comm, description: Description) -> None:
        self._d = description
        self._regions: UserMask | None = None
        self._image: Path | None = None
        self._drawn: NDArray[np.uint8] | None = None
        self.identity: list[str] = list(description.config.deconvolution.mask)
        """By what one mask is told from another: its texts; of an image what tells its content too, since its file may be
        replaced under its name."""
        clean = description.config.deconvolution
        if clean.usemask == "user" and clean.mask:
            if names_an_image(clean.mask):
                self._image = image = Path(clean.mask[0])
                self.identity.append(on_root(comm, "reading the mask image", lambda: self._check_image(image)))
            else:
                self._regions = UserMask.parse(clean.mask)
                if not self._regions.depends_on_channel:
                    self._drawn = self._regions.draw(description.geometry)

    def of(self, chan: int) -> NDArray[np.uint8]:
        """The mask of a channel; read it, don't change it."""
        clean, geometry = self._d.config.deconvolution, self._d.geometry
        if self._image is not None:
            return self._plane_of_image(chan)
        if self._regions is not None:
            return self._drawn if self._drawn is not None else self._regions.draw(geometry, chan)
        if clean.usemask == "pb":
            freq_hz, model = float(self._d.axis.freq_hz[chan]), self._d.config.image.pb_model
            pb = primary_beam(geometry, freq_hz, self._d.dish, model, self._d.pb_axis_lm)
            return mask_from_pb(pb, clean.pbmask)
        if self._drawn is None:
            self._drawn = full_mask(geometry)
        return self._drawn

    def _check_image(self, image: Path) -> str:
        """Refuse an image that doesn't fit; what tells its content from another's."""
        nchan = len(self._planes())
        if nchan not in (1, self._d.axis.nchan):
            raise UsageError(f"mask: {self._image} has {nchan} channels; the image has {self._d.axis.nchan}")
        self._plane_of_image(0)
        return _told_apart(image)

    def _planes(self) -> NDArray[np.generic]:
        from astropy.io import fits

        if self._image is not None and self._image.exists() and not self._image.is_file():
            # a pipe is waited for until somebody writes, deaf to signals; a device has no end
            raise DataError(f"mask: {self._image} is not a regular file")
        try:
            with fits.open(self._image, memmap=True) as file:
                data = np.asarray(file[0].data)
        except (OSError, TypeError) as error:
            raise DataError(f"mask: {self._image} can't be read as a FITS image: {error}") from error
        if data.ndim < 2:
            raise DataError(f"mask: {self._image} holds no image")
        return data.reshape(-1, *data.shape[-2:])

    def _plane_of_image(self, chan: int) -> NDArray[np.uint8]:
        planes = self._planes()
        return mask_from_array(planes[min(chan, len(planes) - 1)], self._d.geometry)
