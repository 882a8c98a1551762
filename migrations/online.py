"""Change a table that is in use, without making its writers wait."""

from collections.abc import Sequence
from typing import Any

from alembic import op
from sqlalchemy import TextClause, text

_INDEX_OF_TABLE = text(
    "SELECT true FROM pg_index"
    " WHERE indexrelid = to_regclass(:name) AND indrelid = to_regclass(:table)"
)


def create_index_online(
    name: str, table: str, columns: Sequence[str | TextClause], **options: Any
) -> None:
    """Build an index while others write. Call this before anything else in the revision.

    It commits what the revision did before. An attempt that was cut short leaves an invalid index,
    which PostgreSQL does not use. That one is dropped first, so that the revision can run again.
    An index of the same name on a table in another schema is left alone.
    """
    with op.get_context().autocommit_block():
        lock_timeout = op.get_bind().scalar(text("SHOW lock_timeout"))
        # Building waits for older transactions to end. It blocks nobody, so it needs no timeout.
        op.execute("SET lock_timeout = 0")
        if op.get_bind().scalar(_INDEX_OF_TABLE, {"name": name, "table": table}):
            op.drop_index(name, table, postgresql_concurrently=True)
        op.create_index(name, table, columns, postgresql_concurrently=True, **options)
        op.execute(f"SET lock_timeout = '{lock_timeout}'")
