"""Files: MeasurementSets, visibility stores, the state of a run, FITS products. SCHEMA.md describes every format of ours."""
