"""What publishers, callers and files may send: refused with a reason, and nobody else hurt."""
