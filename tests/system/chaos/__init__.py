"""Faults on real processes by a seeded schedule, then an audit."""
