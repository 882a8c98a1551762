"""Keep customers and orders in a form from which statistics of any span of time are added up."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision: str = "0037"
down_revision: str | None = "0036"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Create the tables. Workers fill them."""
    op.create_table(
        "span_customers",
        sa.Column("segment", sa.Text, primary_key=True),
        sa.Column(
            "orders", sa.SmallInteger, primary_key=True, autoincrement=False, comment="2: or more"
        ),
        sa.Column(
            "bucket", sa.Integer, primary_key=True, autoincrement=False, comment="of total_spent"
        ),
        sa.Column(
            "created",
            ARRAY(sa.DateTime(timezone=True)),
            nullable=False,
            comment="date_created, in order",
        ),
        sa.Column(
            "spent",
            ARRAY(sa.BigInteger),
            nullable=False,
            comment="in cents, up to each of these",
        ),
        comment="customers as of a moment, so that statistics of any span of time add up few rows",
    )
    op.create_table(
        "span_orders",
        sa.Column("day", sa.Date, primary_key=True, comment="of the store"),
        sa.Column("unattributed", sa.BigInteger, nullable=False, comment="orders placed on it"),
        sa.Column(
            "earlier",
            ARRAY(sa.Date),
            nullable=False,
            comment="when its customers ordered before",
        ),
        sa.Column(
            "orders",
            ARRAY(sa.BigInteger),
            nullable=False,
            comment="counted, up to each of these",
        ),
        comment="orders as of a moment, so that customers who ordered in any days can be counted",
    )


def downgrade() -> None:
    """Drop what workers computed."""
    op.drop_table("span_orders")
    op.drop_table("span_customers")
