"""Record the trace of a segment change, and what the last `crm verify` found."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Add the column and create the table."""
    op.add_column(
        "segment_changes",
        sa.Column(
            "traceparent",
            sa.Text,
            comment="W3C Trace Context; NULL: what caused the change was not traced",
        ),
    )
    op.create_table(
        "verification",
        sa.Column("one", sa.Boolean, primary_key=True, server_default=sa.text("true")),
        sa.Column("verified_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("broken", sa.ARRAY(sa.SmallInteger), nullable=False),
        sa.CheckConstraint("one", name=op.f("ck_verification_single_row")),
        comment="the last `crm verify`: when, and which invariants did not hold",
    )


def downgrade() -> None:
    """Drop the table and the column."""
    op.drop_table("verification")
    op.drop_column("segment_changes", "traceparent")
