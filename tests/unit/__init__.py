"""Tests without any I/O: they run in seconds."""
