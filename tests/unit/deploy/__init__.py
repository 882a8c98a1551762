"""Tests of the files and plans in `deploy/`."""
