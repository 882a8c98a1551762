"""Index orders in other currencies: lists are filtered by these."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from migrations.online import create_index_online

revision: str = "0032"
down_revision: str | None = "0031"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Build the index while others write. It is empty in a shop of one currency."""
    create_index_online(
        "ix_orders_foreign",
        "orders",
        ["customer_id", "currency"],
        postgresql_where=sa.text("currency IS NOT NULL"),
    )


def downgrade() -> None:
    """Drop the index."""
    op.drop_index("ix_orders_foreign", "orders")
