"""Random mixtures of operations, compared with a model in plain Python."""
