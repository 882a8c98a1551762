"""Apply batches of order events."""
