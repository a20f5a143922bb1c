"""Arrays in, arrays out: spectral frames, weighting, gridding, minor cycles, beams. No MPI, no files."""
