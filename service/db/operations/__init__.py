"""What ops asks for: totals, dead letters, losses, verification."""
