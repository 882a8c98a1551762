"""Tests of the tests: they must fail when a line that they guard is switched off."""
