"""Count what was read of each partition, and record the partition of a dead letter."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0007"
down_revision: str | None = "0006"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Create the table and add the column."""
    op.create_table(
        "partition_counters",
        sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("slot", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("read", sa.BigInteger, nullable=False),
        comment="of the entries read, those of each partition; the rest are of the plain stream",
        postgresql_with={"fillfactor": "20"},
    )
    op.add_column(
        "dead_letters",
        sa.Column("partition", sa.Integer, comment="NULL: the stream that is not partitioned"),
    )


def downgrade() -> None:
    """Drop the column and the table."""
    op.drop_column("dead_letters", "partition")
    op.drop_table("partition_counters")
