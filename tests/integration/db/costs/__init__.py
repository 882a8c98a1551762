"""What a batch costs, in counts that are the same on every machine."""
