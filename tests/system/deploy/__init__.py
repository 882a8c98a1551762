"""Tests of what `deploy/` promises: logs, metrics, traces, the image, replicas, restores."""
