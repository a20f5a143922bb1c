"""The types that flow through the journey: plain values, no MPI, no files."""
