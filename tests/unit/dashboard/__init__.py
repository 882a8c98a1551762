"""Words and numbers of the dashboard, without a server."""
