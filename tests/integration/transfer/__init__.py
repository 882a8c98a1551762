"""Tests of CSV exports and of imports from files."""
