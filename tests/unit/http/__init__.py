"""Pages and documents that are written without a server."""
