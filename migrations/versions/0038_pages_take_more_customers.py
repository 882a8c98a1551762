"""Fill the pages of customers further, now that a customer is inserted once."""

from collections.abc import Sequence

from alembic import op

revision: str = "0038"
down_revision: str | None = "0037"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Leave a third of a page to updates. Pages that exist stay as they are."""
    op.execute("ALTER TABLE customers SET (fillfactor = 65)")


def downgrade() -> None:
    """Leave room for the second version of each new customer."""
    op.execute("ALTER TABLE customers SET (fillfactor = 30)")
