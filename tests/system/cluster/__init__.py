"""Tests of partitions, on one Redis and on a cluster of three masters."""
