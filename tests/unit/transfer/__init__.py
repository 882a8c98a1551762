"""Tests of `service/transfer/` that need no server."""
