"""Programs that a team might write instead, each as the documentation of its tools shows it.

All read the same stream and end with the same customers, orders and segments. None has dead
letters, a sweep, counters, a relay that survives a crash, or protection from late profiles.
"""
