"""Who gets in, how far, and how often."""
