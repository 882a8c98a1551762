"""Redis: clients, consumer groups, and snapshots and trimming of streams."""
