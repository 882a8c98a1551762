"""A seeded schedule of faults on real processes, then an audit."""
