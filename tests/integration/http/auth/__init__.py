"""Who is let in, what they may do, and how often."""
