"""Redis: clients, consumer groups, and reads, snapshots and trimming of streams."""
