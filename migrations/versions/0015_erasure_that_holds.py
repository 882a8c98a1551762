"""Let an erasure find ids made of e-mails, mentions of the person, and entries of the streams.

Earlier erasures left such ids as they were. They become pseudonyms now.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy import text

from migrations.online import create_index_online

revision: str = "0015"
down_revision: str | None = "0014"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_COUNTS = {
    "ids_replaced": "ids that became pseudonyms; 0: nobody looks for pseudonyms",
    "erasures": "people erased; with each one, the streams are searched from their beginning",
    "late_events": "batches that named an erased person; the streams are searched on",
}
_SALTED = (
    "('erased-' || left(encode(sha256("
    "(SELECT salt FROM installation) || convert_to({}, 'UTF8')), 'hex'), 32))"
)


def upgrade() -> None:
    """Build the indexes online, add the columns and the table, and replace ids left over."""
    create_index_online(
        "ix_orders_like_an_email", "orders", ["id"], postgresql_where=text("id ~ '@|%40'")
    )
    create_index_online(
        "ix_audit_details",
        "audit",
        [text("lower(details::text) gin_trgm_ops")],
        postgresql_using="gin",
        postgresql_where=text("details <> '{}'"),
    )
    create_index_online(
        "ix_interactions_text",
        "interactions",
        [text("lower(text) gin_trgm_ops")],
        postgresql_using="gin",
    )
    for name, comment in _COUNTS.items():
        op.add_column(
            "installation",
            sa.Column(
                name, sa.BigInteger, nullable=False, server_default=text("0"), comment=comment
            ),
        )
    op.create_table(
        "stream_searches",
        sa.Column("stream", sa.Text, primary_key=True),
        sa.Column(
            "erasures", sa.BigInteger, nullable=False, comment="of the installation, when it began"
        ),
        sa.Column("late_events", sa.BigInteger, nullable=False, comment="of the installation"),
        sa.Column("after_id", sa.Text, nullable=False, comment="entries up to it were searched"),
        sa.Column(
            "until_id", sa.Text, nullable=False, comment="entries up to it are to be searched"
        ),
        sa.Column("entries", sa.BigInteger, nullable=False, comment="deleted so far"),
        comment="how far the entries of erased people have been deleted from the orders streams",
    )
    _allow_scopes("'read', 'write', 'export', 'erase', 'admin'")
    replaced = {
        name: f"CASE WHEN {name} ~ '@|%40' THEN {_SALTED.format(name)} ELSE {name} END"
        for name in ("id", "event_id", "named_event_id")
    }
    op.execute(
        "WITH replaced AS ("
        f" UPDATE orders SET {', '.join(f'{name} = {new}' for name, new in replaced.items())}"
        " WHERE erased AND customer_id IS NULL"
        " AND (id ~ '@|%40' OR event_id ~ '@|%40' OR named_event_id ~ '@|%40') RETURNING 1)"
        " UPDATE installation SET ids_replaced = (SELECT count(*) FROM replaced),"
        " erasures = (SELECT count(*) FROM erased)"
    )


def downgrade() -> None:
    """Drop what was added. Pseudonyms stay, because nobody knows the ids any more."""
    op.execute("UPDATE api_keys SET scopes = array_remove(scopes, 'erase')")
    _allow_scopes("'read', 'write', 'export', 'admin'")
    op.drop_table("stream_searches")
    for name in _COUNTS:
        op.drop_column("installation", name)
    op.drop_index("ix_interactions_text", "interactions")
    op.drop_index("ix_audit_details", "audit")
    op.drop_index("ix_orders_like_an_email", "orders")


def _allow_scopes(listed: str) -> None:
    op.drop_constraint(op.f("ck_api_keys_scopes"), "api_keys")
    op.execute(
        "ALTER TABLE api_keys ADD CONSTRAINT ck_api_keys_scopes"
        f" CHECK (scopes <@ ARRAY[{listed}]) NOT VALID"
    )
    op.execute("ALTER TABLE api_keys VALIDATE CONSTRAINT ck_api_keys_scopes")
