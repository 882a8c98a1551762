"""Keep figures by day, so that a trend need not be computed from all customers."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.online import create_index_online

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Build the indexes online, create the tables, and fill them from what is stored."""
    create_index_online(
        "ix_customers_figures",
        "customers",
        ["total_orders", "total_spent", "last_order_date"],
        postgresql_using="brin",
        postgresql_with={"pages_per_range": 4, "autosummarize": True},
    )
    create_index_online(
        "ix_customer_search_name",
        "customer_search",
        [sa.text("split_part(searched, chr(10), 1)"), "customer_id"],
    )
    op.create_table(
        "daily_changes",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("slot", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("segment", sa.Text(), nullable=False),
        sa.Column("customers", sa.BigInteger(), nullable=False),
        sa.Column("total_spent", sa.Numeric(precision=22, scale=2), nullable=False),
        sa.Column("with_orders", sa.BigInteger(), nullable=False),
        sa.Column("repeat_customers", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("day", "slot", "segment", name=op.f("pk_daily_changes")),
        comment="by how much the segment counters changed on a UTC day, by when it was told",
        postgresql_with={"fillfactor": "50"},
    )
    op.create_table(
        "daily_totals",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("slot", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column(
            "created", sa.BigInteger(), nullable=False, comment="customers, by their dateCreated"
        ),
        sa.Column(
            "orders", sa.BigInteger(), nullable=False, comment="that count, by their dateCreated"
        ),
        sa.Column(
            "revenue",
            sa.Numeric(precision=22, scale=2),
            nullable=False,
            comment="of these orders, less refunds",
        ),
        sa.PrimaryKeyConstraint("day", "slot", name=op.f("pk_daily_totals")),
        comment="what is dated in a UTC day, whenever it was told",
        postgresql_with={"fillfactor": "50"},
    )
    op.create_table(
        "kept_answers",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("as_of", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False, comment="that it took to compute"),
        sa.Column("answer", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_kept_answers")),
        comment="answers that take long, as a worker last computed them",
    )
    # Nobody recorded the changes of earlier days, so all of them count for today.
    op.execute(
        "INSERT INTO daily_changes"
        " SELECT CAST(now() AT TIME ZONE 'UTC' AS date), slot, segment, customers, total_spent,"
        " with_orders, repeat_customers FROM segment_counters"
        " WHERE (customers, total_spent, with_orders, repeat_customers) <> (0, 0, 0, 0)"
    )
    op.execute(
        "INSERT INTO daily_totals SELECT day, 0, sum(created), sum(orders), sum(revenue) FROM ("
        " SELECT CAST(date_created AT TIME ZONE 'UTC' AS date) AS day, count(*) AS created,"
        " 0 AS orders, 0 AS revenue FROM customers GROUP BY 1"
        " UNION ALL SELECT CAST(date_created AT TIME ZONE 'UTC' AS date), 0, count(*),"
        " sum(total - refunded) FROM orders WHERE counts GROUP BY 1) dated GROUP BY day"
    )
    # This comes last, because it locks rows that workers may need.
    op.execute(
        "UPDATE customer_search SET searched = E'\\n' || searched FROM customers"
        " WHERE id = customer_id AND name IS NULL"
    )


def downgrade() -> None:
    """Drop the tables and the indexes."""
    op.drop_index("ix_customer_search_name", "customer_search")
    op.drop_index("ix_customers_figures", "customers")
    op.drop_table("kept_answers")
    op.drop_table("daily_totals")
    op.drop_table("daily_changes")
