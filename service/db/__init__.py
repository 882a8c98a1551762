"""Postgres: the schema, and a folder of modules for each subject."""
