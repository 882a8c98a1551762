"""Postgres: the schema, and one module per thing that is done with it."""
