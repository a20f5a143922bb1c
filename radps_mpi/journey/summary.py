"""What is said before work begins and after it is done."""

from __future__ import annotations

import math

import numpy as np

from radps_mpi.constants import ARCSEC_RAD
from radps_mpi.decomposition import half_width
from radps_mpi.imaging.gridding import Gridder
from radps_mpi.io.commit import Checkpoint
from radps_mpi.io.manifest import FLAG_BEAM_FALLBACK, FLAG_BLANK
from radps_mpi.journey.blocks import BlockImager
from radps_mpi.journey.cycles import valid_channels
from radps_mpi.journey.describe import Description
from radps_mpi.journey.reporting import Reporter
from radps_mpi.journey.space import Needs, needs
from radps_mpi.parallel import total
from radps_mpi.parallel.types import Comm


def description_lines(d: Description, nrank: int, needed: Needs) -> list[str]:
    """The plan in a few lines."""
    axis, g = d.axis, d.geometry
    first, last = axis.freq_hz[0] / 1e6, axis.freq_hz[-1] / 1e6
    span = f"{first:.6f} to {last:.6f} MHz" if axis.nchan > 1 else f"{first:.6f} MHz"
    return [
        f"image: {g.nx} x {g.ny} pixels of {g.cell_x_rad / ARCSEC_RAD:.6g} x {g.cell_y_rad / ARCSEC_RAD:.6g} arcsec about "
        f"{g.direction_frame} {math.degrees(g.ra_rad) % 360:.6f} {math.degrees(g.dec_rad):+.6f} deg",
        f"axis: {axis.nchan} channels, {span} {axis.frame}, {np.median(axis.width_hz) / 1e3:.6g} kHz wide",
        f"work: {len(d.blocks)} blocks of up to {d.nlane} channels x {len(d.leaves)} row groups on {nrank} ranks"
        + (f"; {idle} of them idle" if (idle := max(0, nrank - len(d.blocks) * len(d.leaves))) else ""),
        f"disk: {needed}",
    ]


def announce(d: Description, comm: Comm, report: Reporter) -> None:
    """Say what is going to be made."""
    for line in (*description_lines(d, comm.size, needs(d)), *d.notes):
        report.note(line)


def kernel_line(d: Description, gridder: Gridder) -> str:
    """How blocks are gridded: what was chosen from their channels, the image's size and the accuracy."""
    last, half = d.blocks[-1].nchan, half_width(gridder.nlane)
    chosen = gridder.identity
    size, kept = ("{1} x {0}".format(*chosen[name]) for name in ("padded_size", "plane"))
    if d.continuum:
        how = "all channels onto one plane"
    elif gridder.nlane == 1:
        how = "channel by channel"
    else:
        how = f"{gridder.nlane} channels at once, one per lane of vectors of {chosen['vector_width']}"
        if last <= half < gridder.nlane:
            how += f"; the last block, of {last}, in {half} lanes"
    return (
        f"kernel: {chosen['support']} x {chosen['support']} taps for epsilon {chosen['epsilon']:g}, {chosen['precision']} "
        f"precision, uv plane of {size} cells of which {kept} are in reach; {how}"
    )


def channel_summary(d: Description, state: Checkpoint, imager: BlockImager, report: Reporter) -> None:
    """Name the channels that are blank, at an edge, or without a beam of their own; count what lay beyond the grid."""
    table = state.table
    blank = table["flags"] & FLAG_BLANK != 0
    edge = ~blank & ~valid_channels(table, d.config.spectral.edge_fraction)
    for what, which in (
        ("blank (no data, NaN)", blank),
        (f"edges (sumwt below {d.config.spectral.edge_fraction:g} of the median, not used in shared numbers)", edge),
        ("without a fitted beam (the largest stands in)", table["flags"] & FLAG_BEAM_FALLBACK != 0),
    ):
        if which.any():
            report.note(f"channels {ranges_text(np.flatnonzero(which).tolist())}: {what}")
    beyond = total(state.comm, imager.beyond)
    if beyond:
        report.note(f"{beyond} visibilities lie beyond the image's uv range (cell too large for the longest baselines)")


def ranges_text(channels: list[int]) -> str:
    """0-3, 7: ascending numbers in short."""
    runs: list[list[int]] = []
    for chan in channels:
        if runs and chan == runs[-1][1] + 1:
            runs[-1][1] = chan
        else:
            runs.append([chan, chan])
    return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in runs)
