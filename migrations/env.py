"""Alembic's entry: runs the revisions over the connection that `service.db.migrate` hands in."""

from alembic import context

from service.db.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
