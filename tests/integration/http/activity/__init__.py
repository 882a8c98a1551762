"""Activity: the list and the live stream."""
