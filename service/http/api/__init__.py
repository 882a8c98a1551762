"""The HTTP API. Each route stands beside its models."""
