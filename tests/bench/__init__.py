"""Measurements: run by hand (`make bench`), never timed as tests."""
