"""The plan of a run of faults."""
