"""Add saved views, and the daily numbers of their customers."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision: str = "0033"
down_revision: str | None = "0032"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_MOMENT = sa.DateTime(timezone=True)
_NOW = sa.func.clock_timestamp()


def upgrade() -> None:
    """Create the tables. Those that every shop has are defined in code, and have no row."""
    op.create_table(
        "views",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("owner", sa.Text, nullable=False, comment="the key's or the user's name"),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("shared", sa.Boolean, nullable=False, comment="everybody sees it"),
        sa.Column("filter", JSONB, nullable=False, comment="as requests write it"),
        sa.Column("sort", sa.Text, nullable=False, comment="as requests write it"),
        sa.Column("date_created", _MOMENT, nullable=False, server_default=_NOW),
        sa.Column("date_updated", _MOMENT, nullable=False, server_default=_NOW),
        sa.UniqueConstraint("owner", "name", name=op.f("uq_views_owner_name")),
    )
    op.create_table(
        "view_counts",
        sa.Column(
            "view",
            sa.Text,
            primary_key=True,
            comment="its id, or the name of one that we define",
        ),
        sa.Column("day", sa.Date, primary_key=True, comment="of the store"),
        sa.Column(
            "customers", sa.BigInteger, nullable=False, comment="at the last count of the day"
        ),
        sa.Column("counted_at", _MOMENT, nullable=False),
        sa.Column("seconds", sa.Double, nullable=False, comment="that the count took"),
        comment="how many customers each view has chosen; a worker counts",
    )


def downgrade() -> None:
    """Drop the views."""
    op.drop_table("view_counts")
    op.drop_table("views")
