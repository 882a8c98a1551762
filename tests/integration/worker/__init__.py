"""Tests of the worker on real servers: what it reads, what it writes and what it survives."""
