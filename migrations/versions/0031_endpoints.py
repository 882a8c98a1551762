"""Add the tables of endpoints, to which events are sent by HTTP."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision: str = "0031"
down_revision: str | None = "0030"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_MOMENT = sa.DateTime(timezone=True)


def _count(
    name: str, kind: type[sa.Integer] = sa.BigInteger, comment: str | None = None
) -> sa.Column[int]:
    return sa.Column(name, kind, nullable=False, server_default=sa.text("0"), comment=comment)


def upgrade() -> None:
    """Create both tables."""
    op.create_table(
        "endpoints",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False, server_default=sa.text("''")),
        sa.Column("events", ARRAY(sa.Text), nullable=False),
        sa.Column(
            "allow_private",
            sa.Boolean,
            nullable=False,
            server_default=sa.text("false"),
            comment="whether it may be in a private network, and without TLS there",
        ),
        sa.Column("created_at", _MOMENT, nullable=False, server_default=sa.func.now()),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column(
            "version",
            sa.Integer,
            nullable=False,
            server_default=sa.text("1"),
            comment="rises with each decision about it; whoever sends starts again",
        ),
        sa.Column(
            "change_cursor",
            sa.BigInteger,
            nullable=False,
            comment="publish number up to which each segment change was sent",
        ),
        sa.Column("removal_cursor", sa.BigInteger, nullable=False, comment="the same for removals"),
        sa.Column("paused_at", _MOMENT),
        sa.Column("paused_by", sa.Text, comment="NULL: the service itself, or nobody"),
        sa.Column("paused_because", sa.Text),
        _count("delivered"),
        _count("failed", comment="attempts"),
        sa.Column("last_delivered_at", _MOMENT),
        sa.Column("last_event", sa.Text, comment="id of the event that was sent last"),
        sa.Column("last_attempt_at", _MOMENT),
        _count("failures", sa.Integer, comment="in a row"),
        sa.Column("failing_since", _MOMENT, comment="first failure of the event that is next"),
        sa.Column("next_attempt_at", _MOMENT),
        sa.Column("last_error", sa.Text),
        sa.CheckConstraint(
            "events <@ ARRAY['customer-segment-changed', 'customer-removed']"
            " AND cardinality(events) > 0",
            name=op.f("ck_endpoints_events"),
        ),
        sa.CheckConstraint(
            "change_cursor >= 0 AND removal_cursor >= 0", name=op.f("ck_endpoints_cursors")
        ),
        sa.CheckConstraint(
            "(paused_at IS NULL) = (paused_because IS NULL)", name=op.f("ck_endpoints_paused")
        ),
        sa.CheckConstraint(
            "(failures = 0) = (failing_since IS NULL) AND failures >= 0"
            " AND (failures = 0) = (next_attempt_at IS NULL)",
            name=op.f("ck_endpoints_failures"),
        ),
        postgresql_with={"fillfactor": "50"},
        comment="addresses of other systems that events are sent to",
    )
    op.create_table(
        "endpoint_secrets",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("endpoint_id", sa.BigInteger, nullable=False),
        sa.Column("secret", sa.Text, nullable=False, comment="only workers may read it"),
        sa.Column("created_at", _MOMENT, nullable=False, server_default=sa.func.now()),
        sa.Column("expires_at", _MOMENT, comment="NULL: it signs until another one replaces it"),
        sa.ForeignKeyConstraint(
            ["endpoint_id"],
            ["endpoints.id"],
            name=op.f("fk_endpoint_secrets_endpoint_id"),
            ondelete="CASCADE",
        ),
        sa.UniqueConstraint(
            "endpoint_id", "secret", name=op.f("uq_endpoint_secrets_endpoint_id_secret")
        ),
        sa.CheckConstraint("secret LIKE 'whsec\\_%'", name=op.f("ck_endpoint_secrets_secret")),
    )


def downgrade() -> None:
    """Drop both tables."""
    op.drop_table("endpoint_secrets")
    op.drop_table("endpoints")
