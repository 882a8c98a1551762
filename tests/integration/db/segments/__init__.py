"""Tests of `service/db/segments/`."""
