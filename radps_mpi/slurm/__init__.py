"""Batch jobs: the settings of a site, the script of a run, and what every script does (``attempt.sh``)."""
