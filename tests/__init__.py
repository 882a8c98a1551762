"""Tests. Those in `unit` do no I/O; all others run on real PostgreSQL and Redis servers."""
