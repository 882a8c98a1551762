"""The schedule of faults."""
