"""Tests of `service/db/` that need no server."""
