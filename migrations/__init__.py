"""Alembic's environment and the schema's revisions, shipped with the service."""
