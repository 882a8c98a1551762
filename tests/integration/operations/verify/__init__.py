"""Tests of the invariants: each is broken on purpose."""
