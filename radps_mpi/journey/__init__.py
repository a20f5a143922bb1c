"""The legs of the journey that pipeline.py strings together: each takes the communicator, does local work, reduces, and goes
on. Imaging stays free of MPI and files; what joins them lives here."""
