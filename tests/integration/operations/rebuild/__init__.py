"""Tests of recomputing everything from the stored orders."""
