"""What a migration may do to a table that is in use."""

from collections.abc import Sequence
from typing import Any

from alembic import op
from sqlalchemy import TextClause, text


def create_index_online(
    name: str, table: str, columns: Sequence[str | TextClause], **options: Any
) -> None:
    """Build an index while others write; before anything else that the revision does.

    What was done before is committed. An attempt that was cut short left an index that nobody
    uses: it is dropped first, so that the revision can be run again.
    """
    with op.get_context().autocommit_block():
        patience = op.get_bind().scalar(text("SHOW lock_timeout"))
        # It waits for transactions to end, and has nobody wait for it.
        op.execute("SET lock_timeout = 0")
        op.drop_index(name, table, if_exists=True, postgresql_concurrently=True)
        op.create_index(name, table, columns, postgresql_concurrently=True, **options)
        op.execute(f"SET lock_timeout = '{patience}'")
