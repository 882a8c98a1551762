"""Tests of migrations, of two releases on one database, and of each supported Redis server."""
