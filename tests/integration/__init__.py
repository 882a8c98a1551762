"""Tests that talk to real PostgreSQL and Redis, one folder per part of the service."""
