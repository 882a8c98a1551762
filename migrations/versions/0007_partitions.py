"""The partitions of the orders: what was read of each, and which one a dead letter was in."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0007"
down_revision: str | None = "0006"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Expand the schema."""
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
    """Take it back."""
    op.drop_column("dead_letters", "partition")
    op.drop_table("partition_counters")
