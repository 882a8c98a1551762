"""What a batch may cost, in counts that are the same on every machine."""
