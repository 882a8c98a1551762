"""Tests that do no I/O beyond reading the checkout. All of them run in seconds."""
