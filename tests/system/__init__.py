"""Tests of the whole service: bad input, faults, clusters, deployment, upgrades, the browser."""
