"""Tests of `service/db/operations/`."""
