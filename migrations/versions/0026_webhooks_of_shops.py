"""Keep shops' webhooks: secrets, deliveries, requests about people, orders by the shop's number."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision: str = "0026"
down_revision: str | None = "0025"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_KEY = sa.String(collation="C")
_MOMENT = sa.DateTime(timezone=True)
_NOW = sa.func.now()


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "hooks",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column(
            "platform", sa.Text, nullable=False, comment="the module that reads its webhooks"
        ),
        sa.Column("domain", _KEY, nullable=False, comment="of the shop; the source of its events"),
        sa.Column("date_created", _MOMENT, nullable=False, server_default=_NOW),
        sa.Column("last_delivery_at", _MOMENT, comment="of the last one whose signature was right"),
        sa.Column("last_failure_at", _MOMENT),
        sa.Column("last_failure", sa.Text, comment="what was wrong, and what to do"),
        sa.UniqueConstraint("platform", "domain", name=op.f("uq_hooks_platform_domain")),
        sa.CheckConstraint(
            "(last_failure IS NULL) = (last_failure_at IS NULL)",
            name=op.f("ck_hooks_last_failure"),
        ),
    )
    op.create_table(
        "hook_secrets",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        _of_hook(key=False),
        sa.Column(
            "sealed", sa.Text, nullable=False, comment="encrypted with a key of the installation"
        ),
        sa.Column("date_created", _MOMENT, nullable=False, server_default=_NOW),
        sa.Column("expires_at", _MOMENT, comment="NULL: until it is replaced"),
        comment="only web processes may read the secrets themselves",
    )
    op.create_index("ix_hook_secrets_hook_id", "hook_secrets", ["hook_id"])
    op.create_table(
        "hook_deliveries",
        _of_hook(key=True),
        sa.Column("topic", _KEY, primary_key=True),
        sa.Column("outcome", sa.Text, primary_key=True),
        sa.Column("deliveries", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("last_at", _MOMENT, nullable=False),
        sa.CheckConstraint(
            "outcome IN ('published', 'applied', 'ignored', 'dead_lettered', 'wrong_signature',"
            " 'other_shop', 'too_old', 'unavailable')",
            name=op.f("ck_hook_deliveries_outcome"),
        ),
    )
    op.create_table(
        "shop_requests",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("platform", sa.Text, nullable=False),
        sa.Column("domain", _KEY, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False, comment="SHA-256 of the body"),
        sa.Column(
            "customer_id", sa.BigInteger, comment="whose data it is about; NULL: nobody's here"
        ),
        sa.Column("received_at", _MOMENT, nullable=False, server_default=_NOW),
        sa.Column("done_at", _MOMENT),
        sa.Column("done_by", sa.Text),
        sa.UniqueConstraint(
            "domain", "kind", "digest", name=op.f("uq_shop_requests_domain_kind_digest")
        ),
        sa.CheckConstraint(
            "(done_at IS NULL) = (done_by IS NULL)", name=op.f("ck_shop_requests_done")
        ),
        sa.CheckConstraint(
            "kind IN ('data', 'erase_customer', 'erase_shop')", name=op.f("ck_shop_requests_kind")
        ),
        comment="what shops ask about a person's data; a body that was sent twice is one request",
    )
    op.create_table(
        "shop_orders",
        sa.Column("source", _KEY, primary_key=True),
        sa.Column(
            "shop_id", _KEY, primary_key=True, comment="what the shop's system calls the order"
        ),
        sa.Column(
            "order_id",
            _KEY,
            sa.ForeignKey(
                "orders.id",
                name=op.f("fk_shop_orders_order_id"),
                onupdate="CASCADE",
                ondelete="CASCADE",
            ),
            index=True,
            comment="NULL: the order is not known yet",
        ),
        sa.Column("deleted_at", _MOMENT, comment="when the shop deleted it"),
        sa.Column(
            "told",
            JSONB,
            comment="what its newest event said, if deletion or refunds change that",
        ),
    )
    op.create_table(
        "shop_refunds",
        sa.Column("source", _KEY, primary_key=True),
        sa.Column("shop_id", _KEY, primary_key=True, comment="of the order"),
        sa.Column("refund_id", _KEY, primary_key=True),
        sa.Column("amount", sa.Numeric(14, 2), nullable=False),
        sa.Column("refunded_at", _MOMENT, nullable=False),
        sa.CheckConstraint(
            "amount >= 0 AND amount < 1000000000000", name=op.f("ck_shop_refunds_amount")
        ),
        comment="refunds that shops tell of by themselves",
    )


def _of_hook(*, key: bool) -> sa.Column[int]:
    to_hook = sa.ForeignKey("hooks.id", ondelete="CASCADE")
    return sa.Column("hook_id", sa.BigInteger, to_hook, primary_key=key, nullable=False)


def downgrade() -> None:
    """Drop the tables."""
    for table in (
        "shop_refunds",
        "shop_orders",
        "shop_requests",
        "hook_deliveries",
        "hook_secrets",
        "hooks",
    ):
        op.drop_table(table)
