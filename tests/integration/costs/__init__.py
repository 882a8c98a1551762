"""The cost of a batch, in counts that are the same on every machine."""
