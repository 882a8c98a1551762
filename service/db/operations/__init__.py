"""For operators: totals, activity, dead letters, losses, trimming, verification, rebuild."""
