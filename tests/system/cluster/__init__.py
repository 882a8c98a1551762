"""Partitions of the orders, on one Redis and on a cluster of three masters."""
