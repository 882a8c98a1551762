"""What a user would otherwise write, each the way its tools' own documentation shows it.

All read the same stream and end with the same customers, orders and segments; none has dead
letters, sweeping, counters, a relay that survives a crash, or a defence against late profiles.
"""
