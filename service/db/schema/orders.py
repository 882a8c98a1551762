"""Orders, and the entries that did not become one."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Numeric,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from service.core.dead_letters import Fate
from service.core.personal_ids import LIKE_AN_EMAIL
from service.db.counting import NET
from service.db.schema.base import Amount, Key, Moment, metadata, one_of

orders = Table(
    "orders",
    metadata,
    Column("id", Key, primary_key=True),
    # The event key of the state. The greatest key wins.
    Column("version", BigInteger, nullable=False),
    Column("updated_at", Moment, nullable=False),
    Column("sent_at", Moment, comment="the event's time; NULL: the same as updated_at"),
    Column("event_id", Key, nullable=False),
    Column("status", Text, nullable=False),
    Column("payment_status", Text),
    Column("total", Amount, nullable=False),
    Column("refunded", Amount, nullable=False, comment="all that was refunded so far, as told"),
    Column("currency", Text, comment="of total and refunded; NULL: the store's"),
    Column("exchange_rate", Numeric, comment="the store's currency per unit of this one"),
    Column("date_created", Moment, nullable=False),
    Column("most_refunded", Amount, comment="told once, and more than refunded: the refund fell"),
    # The customer. NULL if the order is unattributed.
    Column("customer_id", BigInteger),
    # What named them, and the key of the event that did. The first of the two that means somebody
    # means the customer. Orders that an earlier release named have none: their customer's e-mail
    # named them.
    Column("identifier", Key),
    Column("other_identifier", Key),
    Column("named_version", BigInteger),
    Column("named_at", Moment),
    Column("named_sent_at", Moment, comment="NULL: the same as named_at"),
    Column("named_event_id", Key),
    Column(
        "erased",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="the person it named was erased; without a customer it is not unattributed",
    ),
    Column("applied_at", Moment, nullable=False, server_default=func.now()),
    Column("counts", Boolean, nullable=False, comment="by the settings when it was written"),
    Column("net", Numeric, Computed(NET, persisted=False)),
    CheckConstraint("total >= 0 AND total < 1000000000000", name="total"),
    CheckConstraint("refunded >= 0 AND refunded < 1000000000000", name="refunded"),
    CheckConstraint("most_refunded > refunded", name="most_refunded"),
    CheckConstraint(
        "coalesce(currency ~ '^[A-Z]{3}$', exchange_rate IS NULL)"
        " AND coalesce(exchange_rate > 0 AND exchange_rate < 'Infinity', true)",
        name="currency",
    ),
    Index(None, "customer_id", "date_created"),
    Index(None, "date_created", postgresql_include=["customer_id", "counts"]),
    Index(
        "ix_orders_unattributed",
        "date_created",
        postgresql_where=text("customer_id IS NULL AND NOT erased"),
    ),
    Index(
        "ix_orders_other_currencies",
        "customer_id",
        "currency",
        postgresql_include=["total", "refunded", "counts"],
        postgresql_where=text("currency IS NOT NULL AND exchange_rate IS NULL"),
    ),
    # Who ordered in another currency. An order's currency hardly ever changes, so updates stay HOT.
    Index(
        "ix_orders_foreign",
        "customer_id",
        "currency",
        postgresql_where=text("currency IS NOT NULL"),
    ),
    # An erasure finds ids made of e-mails. Ids never change otherwise, so updates stay HOT.
    Index("ix_orders_like_an_email", "id", postgresql_where=text(f"id ~ '{LIKE_AN_EMAIL}'")),
    postgresql_with={"fillfactor": "85"},
)

order_conflicts = Table(
    "order_conflicts",
    metadata,
    Column(
        "order_id",
        ForeignKey("orders.id", onupdate="CASCADE", ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("event_id", Key, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("updated_at", Moment, nullable=False),
    Column("sent_at", Moment, nullable=False),
    Column("content", JSONB, nullable=False, comment="what it says of the order's state"),
    Column("noticed_at", Moment, nullable=False, server_default=func.now()),
    comment="events of the same version and times as another that says something else",
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("stream_id", Key, nullable=False),
    Column("field_names", ARRAY(LargeBinary), nullable=False),
    Column("field_values", ARRAY(LargeBinary), nullable=False),
    Column("reason", Text, nullable=False),
    Column("error", Text, nullable=False, comment="a sentence for the publisher's developer"),
    Column("attempts", Integer, nullable=False, server_default=text("1")),
    Column("first_seen", Moment, nullable=False, server_default=func.now()),
    Column("last_seen", Moment, nullable=False, server_default=func.now()),
    Column(
        "digest",
        LargeBinary,
        nullable=False,
        comment="SHA-256 over partition and fields; if cut, over its size, too",
    ),
    Column("partition", Integer, comment="NULL: the stream that is not partitioned"),
    Column("size", BigInteger, comment="bytes of the entry as published; NULL: not measured yet"),
    Column("stored", BigInteger, comment="of them, in the fields here; fewer: the entry is cut"),
    Column(
        "whole_digest",
        LargeBinary,
        comment="SHA-256 over partition and all fields of a cut entry, if they were read",
    ),
    Column(
        "identifiers",
        ARRAY(BigInteger),
        comment="hashes of the e-mails, phones and customer ids in it; NULL: not looked for yet",
    ),
    Column("hints", ARRAY(BigInteger), comment="hashes of the names and other ids in it"),
    Column(
        "order_id",
        Key,
        comment="the order it tells of; empty: it cannot be read; NULL: not looked for yet",
    ),
    Column("order_version", BigInteger, comment="NULL: it cannot be read"),
    Column(
        "order_changed_at", Moment, comment="when the order was changed, or when the entry came"
    ),
    UniqueConstraint("stream_id", "digest"),
    CheckConstraint("attempts >= 1", name="attempts"),
    CheckConstraint("stored >= 0 AND stored <= size", name="stored"),
    CheckConstraint("(identifiers IS NULL) = (hints IS NULL)", name="indexed"),
    CheckConstraint(
        "(order_changed_at IS NOT NULL) = (order_id <> '' AND order_id IS NOT NULL)", name="order"
    ),
    Index(None, "identifiers", postgresql_using="gin"),
    Index(None, "hints", postgresql_using="gin"),
    Index(
        "ix_dead_letters_waiting",
        "id",
        postgresql_where=text("size IS NULL OR identifiers IS NULL OR order_id IS NULL"),
    ),
    Index(None, "order_id", postgresql_where=text("order_id <> ''")),
)

dead_letter_counters = Table(
    "dead_letter_counters",
    metadata,
    Column("fate", Text, primary_key=True),
    Column("slot", SmallInteger, primary_key=True, autoincrement=False),
    Column("letters", BigInteger, nullable=False),
    one_of("fate", Fate),
    comment="dead letters ever measured, and what became of those that are gone",
)
