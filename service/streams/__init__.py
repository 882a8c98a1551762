"""Redis: clients, groups, snapshots and trimming of streams."""
