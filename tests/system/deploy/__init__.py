"""What operations rely on: the deployment's files, logs, metrics, alerts, traces, restores."""
