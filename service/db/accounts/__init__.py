"""Users, API keys, sessions and the audit log."""
