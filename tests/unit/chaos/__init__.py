"""Tests of the schedule of faults in `tests/system/chaos/`."""
