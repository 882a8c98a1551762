"""Measure dead letters, index whom they name, and count what becomes of them.

The letters that are there get their columns from the workers, a few at a time: to measure a letter,
its content must be read, and a content may have hundreds of megabytes.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from migrations.online import create_index_online

revision: str = "0011"
down_revision: str | None = "0010"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_COLUMNS = {
    "size": ("bigint", "bytes of the entry as published; NULL: not measured yet"),
    "stored": ("bigint", "of them, in the fields here; fewer: the entry is cut"),
    "whole_digest": (
        "bytea",
        "SHA-256 over partition and all fields of a cut entry, if they were read",
    ),
    "identifiers": (
        "bigint[]",
        "hashes of the e-mails, phones and customer ids in it; NULL: not looked for yet",
    ),
    "hints": ("bigint[]", "hashes of the names and other ids in it"),
}
_CHECKS = {
    "stored": "stored >= 0 AND stored <= size",
    "indexed": "(identifiers IS NULL) = (hints IS NULL)",
}


def upgrade() -> None:
    """Add the columns, build their indexes online, and create the table of counters.

    Building an index commits what came before it, so each step can be repeated.
    """
    for name, (kind, comment) in _COLUMNS.items():
        op.execute(f"ALTER TABLE dead_letters ADD COLUMN IF NOT EXISTS {name} {kind}")
        op.execute(f"COMMENT ON COLUMN dead_letters.{name} IS '{comment}'")
    op.alter_column(
        "dead_letters",
        "digest",
        comment="SHA-256 over partition and fields; if cut, over its size, too",
    )
    for name, condition in _CHECKS.items():
        op.execute(f"ALTER TABLE dead_letters DROP CONSTRAINT IF EXISTS ck_dead_letters_{name}")
        op.execute(
            f"ALTER TABLE dead_letters ADD CONSTRAINT ck_dead_letters_{name}"
            f" CHECK ({condition}) NOT VALID"
        )
    for name in ("identifiers", "hints"):
        create_index_online(
            f"ix_dead_letters_{name}", "dead_letters", [name], postgresql_using="gin"
        )
    create_index_online(
        "ix_dead_letters_waiting",
        "dead_letters",
        ["id"],
        postgresql_where=sa.text("size IS NULL OR identifiers IS NULL"),
    )
    for name in _CHECKS:
        op.execute(f"ALTER TABLE dead_letters VALIDATE CONSTRAINT ck_dead_letters_{name}")
    op.create_table(
        "dead_letter_counters",
        sa.Column("fate", sa.Text, primary_key=True),
        sa.Column("slot", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("letters", sa.BigInteger, nullable=False),
        sa.CheckConstraint(
            "fate IN ('stored', 'replayed', 'discarded', 'too_old', 'too_many', 'too_much')",
            name=op.f("ck_dead_letter_counters_fate"),
        ),
        comment="dead letters ever measured, and what became of those that are gone",
    )


def downgrade() -> None:
    """Drop the table and the columns, with their indexes. Letters that were cut stay cut."""
    op.drop_table("dead_letter_counters")
    for name in _COLUMNS:
        op.drop_column("dead_letters", name)
    op.alter_column("dead_letters", "digest", comment="SHA-256 over the fields")
