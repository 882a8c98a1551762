"""Statistics: counters, key figures, figures by day, cohorts, and a cache for slow answers."""
