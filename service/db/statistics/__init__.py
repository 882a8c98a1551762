"""Counters, key figures and what they are made of."""
