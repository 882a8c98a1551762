"""Take the identifiers of the customers who are there from their e-mails."""

from collections.abc import Sequence

from alembic import op

revision: str = "0017"
down_revision: str | None = "0016"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Fill the table while others write, and keep what staff typed from being overwritten."""
    with op.get_context().autocommit_block():
        op.execute(
            "INSERT INTO identifiers (identifier, customer_id, since)"
            " SELECT 'email:' || email_key, id, date_created FROM customers"
            " WHERE email_key IS NOT NULL ON CONFLICT DO NOTHING"
        )
        op.execute(
            "INSERT INTO identifiers (identifier, customer_id)"
            " SELECT 'email:' || email_key, customer_id FROM former_emails ON CONFLICT DO NOTHING"
        )
        op.execute(
            "UPDATE customers SET email_at = 'infinity', email_event = ''"
            " WHERE email_at IS NULL AND (email <> email_key OR id IN ("
            " SELECT customer_id FROM audit WHERE action = 'customer.created'"
            " OR action = 'customer.updated' AND details ? 'email'))"
        )


def downgrade() -> None:
    """Change nothing: the revision before drops the table."""
