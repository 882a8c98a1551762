"""Upgrades: migrations, two releases on one database, and the servers that are supported."""
