"""`make chaos`: faults on real processes by a seeded schedule, then an audit."""
