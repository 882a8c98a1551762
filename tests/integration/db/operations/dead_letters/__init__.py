"""Tests of dead letters, over HTTP."""
