"""Tests of `service/db/ingest/`."""
