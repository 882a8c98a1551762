"""The local stack, with real servers and real signals."""
