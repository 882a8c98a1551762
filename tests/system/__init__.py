"""Tests of whole processes: faults, clusters, deployment, upgrades, the browser."""
