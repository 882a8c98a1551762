"""Tests of `service/core/`."""
