"""Keep what somebody else wrote to the streams, and changes that a restored database lacks."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0012"
down_revision: str | None = "0011"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Create both tables."""
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "foreign_entries",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("stream", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("first_id", sa.Text, nullable=False),
        sa.Column("last_id", sa.Text, nullable=False),
        sa.Column("entries", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False, comment="what is wrong with the first one"),
        sa.Column("sample", sa.LargeBinary, nullable=False, comment="the first one's beginning"),
        sa.Column("noticed_at", moment, nullable=False),
        sa.Column("last_noticed_at", moment, nullable=False),
        sa.Column("acknowledged_at", moment),
        sa.Column("acknowledged_by", sa.Text),
        sa.CheckConstraint(
            "kind IN ('foreign', 'unknown', 'refused', 'ahead')",
            name=op.f("ck_foreign_entries_kind"),
        ),
        comment="what somebody else wrote to a stream of ours, or did to it",
    )
    op.create_table(
        "unknown_changes",
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("customer_id", sa.BigInteger, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        comment="well-formed changes of the out-stream that this database never published",
    )
    op.create_index("ix_unknown_changes_customer_id", "unknown_changes", ["customer_id"])


def downgrade() -> None:
    """Drop both tables."""
    op.drop_table("unknown_changes")
    op.drop_table("foreign_entries")
