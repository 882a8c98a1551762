"""Keep the e-mails that customers had before staff corrected them."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0008"
down_revision: str | None = "0007"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Create the table, and fill it with the corrections that the audit has recorded."""
    op.create_table(
        "former_emails",
        sa.Column(
            "email_key",
            sa.String(collation="C"),
            primary_key=True,
            comment="nobody's present e-mail",
        ),
        sa.Column(
            "customer_id",
            sa.BigInteger,
            sa.ForeignKey(
                "customers.id",
                name=op.f("fk_former_emails_customer_id"),
                ondelete="CASCADE",
            ),
            nullable=False,
        ),
        comment="events go on naming people by the e-mail that staff corrected",
    )
    op.create_index(op.f("ix_former_emails_customer_id"), "former_emails", ["customer_id"])
    op.execute("""
        INSERT INTO former_emails (email_key, customer_id)
        SELECT DISTINCT ON (email_key) email_key, customer_id FROM (
          SELECT lower(details -> 'email' ->> 0) AS email_key, customer_id, id FROM audit
          WHERE details ? 'email'
        ) corrected
        WHERE customer_id IN (SELECT id FROM customers)
          AND email_key NOT IN (SELECT email_key FROM customers)
        ORDER BY email_key, id DESC
    """)


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("former_emails")
