"""Sort names alike on every server, and keep the order of lists that somebody walks through."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

from migrations.online import create_index_online

revision: str = "0028"
down_revision: str | None = "0027"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_NAME = "ix_customer_search_name"
_BY_CODE_POINT = 'split_part(searched COLLATE "C", chr(10), 1)'
_KEY = sa.String(collation="C")


def upgrade() -> None:
    """Build the new index beside the one that is there, put it in its place, add the table."""
    new = f"{_NAME}_new"
    create_index_online(new, "customer_search", [sa.text(_BY_CODE_POINT), "customer_id"])
    op.drop_index(_NAME, "customer_search")
    op.execute(f"ALTER INDEX {new} RENAME TO {_NAME}")
    op.create_table(
        "list_walks",
        sa.Column("name", _KEY, nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "ids", ARRAY(sa.BigInteger()), nullable=False, comment="in the order of that moment"
        ),
        sa.Column(
            "complete",
            sa.Boolean(),
            nullable=False,
            comment="nobody comes after the last of them",
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_list_walks")),
        comment="lists that somebody reads page by page while orders change their order",
    )
    op.create_index(op.f("ix_list_walks_began_at"), "list_walks", ["began_at"])


def downgrade() -> None:
    """Drop the table, and sort names by the database's collation again."""
    op.drop_table("list_walks")
    op.drop_index(_NAME, "customer_search")
    by_collation = sa.text("split_part(searched, chr(10), 1)")
    op.create_index(_NAME, "customer_search", [by_collation, "customer_id"])
