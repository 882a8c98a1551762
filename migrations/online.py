"""Change a table that is in use, without making its writers wait."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from alembic import op
from sqlalchemy import TextClause, text
from sqlalchemy.exc import IntegrityError

log = logging.getLogger(__name__)

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


def add_checks_online(checks: Mapping[tuple[str, str], str]) -> None:
    """Add CHECK constraints while others write: {(table, name): condition}.

    Call this before anything else in the revision: it commits after each step. From the first step
    on, the constraint holds for new rows. Then the rows that are there are checked, under a lock
    that stops nobody. If some break the constraint, it stays unchecked for them, and `crm verify`
    says so.
    """
    with op.get_context().autocommit_block():
        for (table, name), condition in checks.items():
            op.execute(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}")
            op.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} CHECK ({condition}) NOT VALID")
            try:
                op.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}")
            except IntegrityError:
                log.warning("%s: some rows of %s break it; `crm verify` says more", name, table)
