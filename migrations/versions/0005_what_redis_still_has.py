"""Record what Redis holds of the input, what it lost, and what was trimmed."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Create the tables, and add a column to the relay's row."""
    op.create_table(
        "sightings",
        sa.Column("stream", sa.Text, primary_key=True),
        sa.Column("consumer_group", sa.Text, primary_key=True),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("added", sa.BigInteger, nullable=False, comment="entries ever added"),
        sa.Column("removed", sa.BigInteger, nullable=False, comment="of them, no longer there"),
        sa.Column("last_id", sa.Text, nullable=False),
        sa.Column(
            "settled_id", sa.Text, nullable=False, comment="all up to it had been acknowledged"
        ),
        sa.Column("listening", sa.Boolean, nullable=False, comment="a consumer was reading"),
        sa.Column(
            "balance",
            sa.BigInteger,
            nullable=False,
            comment="entries counted here less entries passed on by Redis, at least",
        ),
        sa.Column("read", sa.BigInteger, nullable=False, comment="entries counted here"),
        sa.Column("away_since", sa.DateTime(timezone=True), comment="Redis has not answered since"),
        comment="what Redis was last seen to hold of an orders stream",
    )
    op.create_table(
        "losses",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("stream", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("after_id", sa.Text, nullable=False),
        sa.Column("until_id", sa.Text, nullable=False),
        sa.Column("entries", sa.BigInteger, comment="NULL: nobody knows how many"),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("noticed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_noticed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("acknowledged_at", sa.DateTime(timezone=True)),
        sa.Column("acknowledged_by", sa.Text),
        sa.CheckConstraint("kind IN ('removed', 'rolled_back')", name=op.f("ck_losses_kind")),
        comment="entries that Redis took, and that were gone before they were applied",
    )
    op.create_table(
        "trims",
        sa.Column("stream", sa.Text, primary_key=True),
        sa.Column("entries", sa.BigInteger, nullable=False, comment="trimmed off so far"),
        sa.Column("held_by", sa.Text, comment="the group that keeps more from being trimmed"),
        sa.Column("held_at", sa.Text, comment="the first entry that it has not acknowledged"),
    )
    op.add_column(
        "relay",
        sa.Column(
            "trimmed",
            sa.BigInteger,
            server_default=sa.text("0"),
            nullable=False,
            comment="everything up to it was trimmed off on purpose",
        ),
    )


def downgrade() -> None:
    """Drop the column and the tables."""
    op.drop_column("relay", "trimmed")
    for table in ("trims", "losses", "sightings"):
        op.drop_table(table)
