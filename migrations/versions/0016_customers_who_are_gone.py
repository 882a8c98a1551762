"""Announce customers who are gone, also those who were erased before this release."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0016"
down_revision: str | None = "0015"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# Each customer had a first segment change, and it stays. Whoever has one and no row is gone.
_EARLIER = """
INSERT INTO removals (customer_id, reason, removed_at)
SELECT h.customer_id, 'erased', coalesce(
  (SELECT max(a.at) FROM audit a
   WHERE a.customer_id = h.customer_id AND a.action = 'customer.erased'),
  clock_timestamp())
FROM segment_changes h
WHERE h.sequence = 1 AND NOT EXISTS (SELECT FROM customers c WHERE c.id = h.customer_id)
ORDER BY h.customer_id
ON CONFLICT (customer_id) DO NOTHING
"""


def upgrade() -> None:
    """Create both tables, and announce those who are gone."""
    op.create_table(
        "removals",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("customer_id", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("merged_into", sa.BigInteger, comment="who stayed"),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "publish_number",
            sa.BigInteger,
            comment="the out-stream's entry id; NULL: the relay has not taken it up yet",
        ),
        sa.UniqueConstraint("customer_id", name=op.f("uq_removals_customer_id")),
        sa.CheckConstraint(
            "reason IN ('merged', 'erased', 'not_a_person')", name=op.f("ck_removals_reason")
        ),
        sa.CheckConstraint(
            "(reason = 'merged') = (merged_into IS NOT NULL)"
            " AND merged_into IS DISTINCT FROM customer_id",
            name=op.f("ck_removals_merged_into"),
        ),
        comment="customers who are gone, for subscribers; their ids are never used again",
    )
    op.create_index(
        "ix_removals_outbox", "removals", ["id"], postgresql_where=sa.text("publish_number IS NULL")
    )
    op.create_index(
        "uq_removals_publish_number",
        "removals",
        ["publish_number"],
        unique=True,
        postgresql_where=sa.text("publish_number IS NOT NULL"),
    )
    op.create_table(
        "removals_relay",
        sa.Column("one", sa.Boolean, primary_key=True, server_default=sa.text("true")),
        sa.Column("numbered", sa.BigInteger, nullable=False, comment="last publish number given"),
        sa.Column(
            "published",
            sa.BigInteger,
            nullable=False,
            comment="last one known to be in the stream",
        ),
        sa.Column(
            "trimmed",
            sa.BigInteger,
            nullable=False,
            server_default=sa.text("0"),
            comment="everything up to it was trimmed off on purpose",
        ),
        sa.CheckConstraint("one", name=op.f("ck_removals_relay_single_row")),
        sa.CheckConstraint("published <= numbered", name=op.f("ck_removals_relay_published")),
    )
    op.execute("INSERT INTO removals_relay (numbered, published) VALUES (0, 0)")
    op.execute(_EARLIER)


def downgrade() -> None:
    """Drop both tables."""
    op.drop_table("removals_relay")
    op.drop_table("removals")
