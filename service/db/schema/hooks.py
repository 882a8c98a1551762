"""Webhooks of shops: their secrets, what was delivered, and what shops say of orders by number."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from service.core.hooks import DeliveryOutcome, ShopRequest
from service.db.schema.base import Amount, Key, Moment, metadata, one_of

hooks = Table(
    "hooks",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("platform", Text, nullable=False, comment="the module that reads its webhooks"),
    Column("domain", Key, nullable=False, comment="of the shop; the source of its events"),
    Column("date_created", Moment, nullable=False, server_default=func.now()),
    Column("last_delivery_at", Moment, comment="of the last one whose signature was right"),
    Column("last_failure_at", Moment),
    Column("last_failure", Text, comment="what was wrong, and what to do"),
    UniqueConstraint("platform", "domain"),
    CheckConstraint("(last_failure IS NULL) = (last_failure_at IS NULL)", name="last_failure"),
)

hook_secrets = Table(
    "hook_secrets",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("hook_id", ForeignKey("hooks.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("sealed", Text, nullable=False, comment="encrypted with a key of the installation"),
    Column("date_created", Moment, nullable=False, server_default=func.now()),
    Column("expires_at", Moment, comment="NULL: until it is replaced"),
    comment="only web processes may read the secrets themselves",
)

hook_deliveries = Table(
    "hook_deliveries",
    metadata,
    Column("hook_id", ForeignKey("hooks.id", ondelete="CASCADE"), primary_key=True),
    Column("topic", Key, primary_key=True),
    Column("outcome", Text, primary_key=True),
    Column("deliveries", BigInteger, nullable=False, server_default=text("0")),
    Column("last_at", Moment, nullable=False),
    one_of("outcome", DeliveryOutcome),
)

shop_requests = Table(
    "shop_requests",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("platform", Text, nullable=False),
    Column("domain", Key, nullable=False),
    Column("kind", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False, comment="SHA-256 of the body"),
    Column("customer_id", BigInteger, comment="whose data it is about; NULL: nobody's here"),
    Column("received_at", Moment, nullable=False, server_default=func.now()),
    Column("done_at", Moment),
    Column("done_by", Text),
    UniqueConstraint("domain", "kind", "digest"),
    CheckConstraint("(done_at IS NULL) = (done_by IS NULL)", name="done"),
    one_of("kind", ShopRequest),
    comment="what shops ask about a person's data; a body that was sent twice is one request",
)

shop_orders = Table(
    "shop_orders",
    metadata,
    Column("source", Key, primary_key=True),
    Column("shop_id", Key, primary_key=True, comment="what the shop's system calls the order"),
    Column(
        "order_id",
        ForeignKey("orders.id", onupdate="CASCADE", ondelete="CASCADE"),
        index=True,
        comment="NULL: the order is not known yet",
    ),
    Column("deleted_at", Moment, comment="when the shop deleted it"),
    Column("told", JSONB, comment="what its newest event said, if deletion or refunds change that"),
)

shop_refunds = Table(
    "shop_refunds",
    metadata,
    Column("source", Key, primary_key=True),
    Column("shop_id", Key, primary_key=True, comment="of the order"),
    Column("refund_id", Key, primary_key=True),
    Column("amount", Amount, nullable=False),
    Column("refunded_at", Moment, nullable=False),
    CheckConstraint("amount >= 0 AND amount < 1000000000000", name="amount"),
    comment="refunds that shops tell of by themselves",
)
