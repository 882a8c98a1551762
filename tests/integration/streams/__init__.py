"""Tests of losses in Redis, which must be noticed, and of trimming."""
