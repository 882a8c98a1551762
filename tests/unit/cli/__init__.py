"""Tests of how commands print, without a terminal or a server."""
