"""Give the figures in daily_changes a default of 0. Those in segment_counters have one already.

When a later revision adds a figure, workers of the release before it go on writing rows without it.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0009"
down_revision: str | None = "0008"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_FIGURES = ("customers", "total_spent", "with_orders", "repeat_customers")


def upgrade() -> None:
    """Set the defaults."""
    for name in _FIGURES:
        op.alter_column("daily_changes", name, server_default=sa.text("0"))


def downgrade() -> None:
    """Drop the defaults."""
    for name in _FIGURES:
        op.alter_column("daily_changes", name, server_default=None)
