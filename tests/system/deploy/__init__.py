"""The deployment: its files, logs, metrics, alerts, traces, replicas and restores."""
