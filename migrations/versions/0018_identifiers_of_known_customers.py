"""Take the identifiers of the customers who are there from their e-mails."""

from collections.abc import Sequence

from alembic import op
from sqlalchemy import text

from service.core.identifiers import email_key

revision: str = "0018"
down_revision: str | None = "0017"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


_USUAL = "^[a-z0-9!#$%&''*+/=?^_`{|}~.-]+@[a-z0-9_-]+([.][a-z0-9_-]+)*$"
"""E-mails that are their own normal form: nearly all."""


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
        _normalise()


def _normalise() -> None:
    """Write e-mails in their normal form. Whoever has the same one by that is due to be merged."""
    connection = op.get_bind()
    unusual = connection.execute(
        text(
            "SELECT identifier, customer_id FROM identifiers WHERE identifier LIKE 'email:%'"
            " AND substr(identifier, 7) !~ :usual ORDER BY identifier"
        ),
        {"usual": _USUAL},
    ).all()
    for identifier, customer in unusual:
        written = identifier.removeprefix("email:")
        key = email_key(written)
        if key is None or key == written:
            continue
        names = {"identifier": identifier, "new": f"email:{key}", "id": customer}
        owner = connection.scalar(_TAKE, names)
        if owner != customer:
            connection.execute(_DUE, {"low": min(owner, customer), "high": max(owner, customer)})
            key = None  # no two customers have the same one, so this one has none until the merge
        connection.execute(_OWN, {"id": customer, "written": written, "key": key})
        connection.execute(_DROP, names)


_TAKE = text("""
INSERT INTO identifiers AS i (identifier, customer_id) VALUES (:new, :id)
ON CONFLICT (identifier) DO UPDATE SET since = i.since RETURNING customer_id
""")
_DUE = text("""
INSERT INTO pending_merges (low, high) VALUES (:low, :high) ON CONFLICT DO NOTHING
""")
_OWN = text("""
UPDATE customers SET email_key = CAST(:key AS text),
  email = CASE WHEN email = email_key OR CAST(:key AS text) IS NULL THEN :key ELSE email END
WHERE id = :id AND email_key = :written
""")
_DROP = text("DELETE FROM identifiers WHERE identifier = :identifier")


def downgrade() -> None:
    """Change nothing: the revision before drops the table."""
