"""Simulated observations: antennas, uv coverage, sky and noise. Arrays in, arrays out; no MPI and no files."""
