"""Everything that can happen to the service, mixed, against a model in plain Python."""
