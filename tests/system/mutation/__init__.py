"""Tests of the tests: they fail when a line that they guard is switched off, and they end."""
