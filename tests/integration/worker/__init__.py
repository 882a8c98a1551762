"""Tests of `consumers/`: what a worker reads, writes and survives."""
