"""The worker: reads orders, applies them, publishes segment changes, and does the chores.

`worker` starts and stops the parts. An entry goes `orders` → `applier` → Postgres; the segment
changes that it causes go Postgres → `relay` → Redis.
"""
