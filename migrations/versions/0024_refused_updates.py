"""Add the order that a dead letter is about, and how new its state of that order is.

Workers read it from the letters that are there, a few at a time, as they measure letters.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from migrations.online import create_index_online

revision: str = "0024"
down_revision: str | None = "0023"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_COLUMNS = {
    "order_id": (
        'varchar COLLATE "C"',
        "the order it tells of; empty: it cannot be read; NULL: not looked for yet",
    ),
    "order_version": ("bigint", "NULL: it cannot be read"),
    "order_changed_at": (
        "timestamptz",
        "when the order was changed, or when the entry came",
    ),
}
_CHECK = "(order_changed_at IS NOT NULL) = (order_id <> '' AND order_id IS NOT NULL)"
_WAITING = "size IS NULL OR identifiers IS NULL"


def upgrade() -> None:
    """Add the columns, and build their indexes online."""
    for name, (kind, comment) in _COLUMNS.items():
        op.execute(f"ALTER TABLE dead_letters ADD COLUMN IF NOT EXISTS {name} {kind}")
        op.execute(f"COMMENT ON COLUMN dead_letters.{name} IS '{comment}'")
    op.execute("ALTER TABLE dead_letters DROP CONSTRAINT IF EXISTS ck_dead_letters_order")
    op.execute(
        f"ALTER TABLE dead_letters ADD CONSTRAINT ck_dead_letters_order CHECK ({_CHECK}) NOT VALID"
    )
    create_index_online(
        "ix_dead_letters_order_id",
        "dead_letters",
        ["order_id"],
        postgresql_where=sa.text("order_id <> ''"),
    )
    create_index_online(
        "ix_dead_letters_waiting",
        "dead_letters",
        ["id"],
        postgresql_where=sa.text(f"{_WAITING} OR order_id IS NULL"),
    )
    op.execute("ALTER TABLE dead_letters VALIDATE CONSTRAINT ck_dead_letters_order")


def downgrade() -> None:
    """Drop what was added."""
    op.drop_index("ix_dead_letters_waiting", "dead_letters")
    for name in _COLUMNS:
        op.drop_column("dead_letters", name)
    op.create_index(
        "ix_dead_letters_waiting", "dead_letters", ["id"], postgresql_where=sa.text(_WAITING)
    )
