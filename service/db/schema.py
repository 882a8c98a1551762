"""The tables, as the migrations leave them. A test compares the two.

Columns that are compared as keys (ids, identifiers) have the collation "C". So Postgres sorts and
compares them exactly as Python does, whatever locale the database has.
"""

from collections.abc import Iterator
from decimal import Decimal
from enum import StrEnum
from itertools import chain
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    Connection,
    Date,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    event,
    func,
    literal_column,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from service.core.counting import CountFrom
from service.core.dead_letters import Fate
from service.core.foreign_kinds import ForeignKind
from service.core.loss_arithmetic import LossKind
from service.core.order_event import REGISTERS
from service.core.personal_ids import LIKE_AN_EMAIL
from service.core.reconstruction import ReconstructionCause
from service.core.removal_event import RemovalReason
from service.core.scopes import Role
from service.core.segment_event import Cause
from service.core.segment_rules import Precedence, Segment
from service.db.counting import COUNTING, NET, counts_sql
from service.db.figures import SegmentFigures

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    }
)

Key = String(collation="C")
Moment = DateTime(timezone=True)
Amount = Numeric(14, 2)  # below 10^12, the limit of an amount in an event
Total = Numeric(22, 2)  # a sum of very many amounts

COUNTER_SLOTS = 8
"""The rows that each counter is spread over, so that parallel writers seldom wait for one row."""
GENERATION_SLOTS = 16
"""The slots of one generation of daily figures: those of writers, and one for what was computed."""


def _one_of(column: str, values: type[StrEnum]) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def _figures() -> Iterator[Column[Any]]:
    """Yield a column per figure.

    Each has a default, because workers of the previous release write rows without a new figure.
    """
    for name, kind in SegmentFigures.__annotations__.items():
        kind_in_sql = Total if kind is Decimal else BigInteger()
        yield Column(name, kind_in_sql, nullable=False, server_default=text("0"))


def _register(name: str, kind: Any) -> Iterator[Column[Any]]:
    """Yield the columns of a register: a value and the key (time, event id) that it came with.

    A value that a person typed has the time infinity, because no event is later than that.
    """
    yield Column(name, kind)
    yield Column(f"{name}_at", Moment)
    yield Column(f"{name}_event", Key)


customers = Table(
    "customers",
    metadata,
    Column("id", BigInteger, Identity(start=1001), primary_key=True),
    Column("email_key", Key, comment="the normal form of their own e-mail"),
    *chain.from_iterable(
        _register(name, JSONB if name == "address" else Text) for name in REGISTERS
    ),
    Column("email_opt_in", Boolean, nullable=False, server_default=text("false")),
    Column("sms_opt_in", Boolean, nullable=False, server_default=text("false")),
    Column("notes", Text, nullable=False, server_default=text("''")),
    Column(
        "date_created",
        Moment,
        nullable=False,
        comment="earliest date of an order whose event named them, or when entered by hand",
    ),
    Column("date_updated", Moment, nullable=False, server_default=func.now()),
    Column("total_orders", Integer, nullable=False, server_default=text("0")),
    Column("total_spent", Total, nullable=False, server_default=text("0")),
    Column("first_order_date", Moment),
    Column("last_order_date", Moment),
    Column("segment", Text, nullable=False, server_default=text("'new'")),
    Column(
        "segment_sequence",
        Integer,
        nullable=False,
        server_default=text("0"),
        comment="of their latest segment change; 0: none announced yet",
    ),
    Column("segment_manual", Boolean, nullable=False, server_default=text("false")),
    Column("segment_pinned", Boolean, nullable=False, server_default=text("false")),
    Column("segment_pinned_until", Moment),
    Column("segment_held_since", Moment, comment="when a person set the segment by hand"),
    # Workers of the release before create customers by it. `identifiers` says whom an e-mail means.
    UniqueConstraint("email_key"),
    CheckConstraint("(email IS NULL) = (email_key IS NULL)", name="email_key"),
    _one_of("segment", Segment),
    CheckConstraint("total_orders >= 0", name="total_orders"),
    CheckConstraint("total_spent >= 0 AND total_spent < 'NaN'", name="total_spent"),
    CheckConstraint(
        "(total_orders = 0) = (first_order_date IS NULL)"
        " AND (total_orders = 0) = (last_order_date IS NULL)",
        name="order_dates",
    ),
    CheckConstraint(
        "segment_manual = (segment_held_since IS NOT NULL)"
        " AND (segment_manual OR NOT segment_pinned AND segment_pinned_until IS NULL)"
        " AND NOT (segment_pinned AND segment_pinned_until IS NOT NULL)",
        name="hold",
    ),
    Index(None, "date_created"),
    Index(
        None,
        "segment_pinned_until",
        postgresql_where=text("segment_pinned_until IS NOT NULL"),
    ),
    # Lists are sorted by these. Every order changes them, and an update that changes a b-tree's
    # columns cannot be HOT. With BRIN it can.
    Index(
        "ix_customers_figures",
        "total_orders",
        "total_spent",
        "last_order_date",
        postgresql_using="brin",
        postgresql_with={"pages_per_range": 4, "autosummarize": True},
    ),
    # One transaction inserts a customer and updates the row at once. With room for both versions,
    # the update stays on the page and leaves the indexes alone (HOT). A page that takes no more
    # inserts is then 70 % full.
    postgresql_with={"fillfactor": "30"},
)

identifiers = Table(
    "identifiers",
    metadata,
    Column("identifier", Key, comment="such as email:jane@example.com"),
    Column("customer_id", BigInteger, index=True, comment="NULL: it is not a person"),
    Column("given_by", Text, comment="who gave it to them; NULL: an event did"),
    Column("since", Moment, nullable=False, server_default=func.now()),
    # A batch reads only the index. In a large shop, the table's pages would be read from disk.
    PrimaryKeyConstraint("identifier", postgresql_include=["customer_id"]),
    comment="whom e-mails, external ids, phones and ids of merged customers mean",
)

pending_merges = Table(
    "pending_merges",
    metadata,
    Column("low", BigInteger, primary_key=True, autoincrement=False),
    Column("high", BigInteger, primary_key=True, autoincrement=False, index=True),
    Column("since", Moment, nullable=False, server_default=func.now()),
    Column(
        "protected",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="one of them has too many identifiers: a person decides",
    ),
    CheckConstraint("low < high", name="pair"),
    comment="customers whom an event has put together",
)

separations = Table(
    "separations",
    metadata,
    Column("low", BigInteger, primary_key=True, autoincrement=False),
    Column("high", BigInteger, primary_key=True, autoincrement=False, index=True),
    Column("decided_by", Text, nullable=False),
    Column("decided_at", Moment, nullable=False, server_default=func.clock_timestamp()),
    CheckConstraint("low < high", name="pair"),
    comment="customers who are two people, whatever events say",
)

customer_search = Table(
    "customer_search",
    metadata,
    Column("customer_id", BigInteger, primary_key=True, autoincrement=False),
    Column("searched", Text, nullable=False, comment="name, e-mail, phone, notes; lower-cased"),
    Index(
        "ix_customer_search_searched",
        "searched",
        postgresql_using="gin",
        postgresql_ops={"searched": "gin_trgm_ops"},
    ),
    Index("ix_customer_search_name", text("split_part(searched, chr(10), 1)"), "customer_id"),
    comment="beside customers, so that their metrics change without touching a trigram index",
)

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

segment_changes = Table(
    "segment_changes",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("customer_id", BigInteger, nullable=False),
    Column("sequence", Integer, nullable=False, comment="per customer, rising by one from 1"),
    Column("previous", Text, comment="NULL: the first segment they were given"),
    Column("segment", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("settings_version", Integer, nullable=False),
    Column("total_orders", Integer, nullable=False),
    Column("total_spent", Total, nullable=False),
    Column("last_order_date", Moment),
    Column("changed_at", Moment, nullable=False),
    Column(
        "publish_number",
        BigInteger,
        comment="the out-stream's entry id; NULL: the relay has not taken it up yet",
    ),
    Column(
        "traceparent",
        Text,
        comment="W3C Trace Context; NULL: what caused the change was not traced",
    ),
    UniqueConstraint("customer_id", "sequence"),
    _one_of("segment", Segment),
    _one_of("cause", Cause),
    CheckConstraint("sequence >= 1", name="sequence"),
    _one_of("previous", Segment),
    Index("ix_segment_changes_outbox", "id", postgresql_where=text("publish_number IS NULL")),
    Index(
        "uq_segment_changes_publish_number",
        "publish_number",
        unique=True,
        postgresql_where=text("publish_number IS NOT NULL"),
    ),
)

removals = Table(
    "removals",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("customer_id", BigInteger, nullable=False, unique=True),
    Column("reason", Text, nullable=False),
    Column("merged_into", BigInteger, comment="who stayed"),
    Column("removed_at", Moment, nullable=False),
    Column(
        "publish_number",
        BigInteger,
        comment="the out-stream's entry id; NULL: the relay has not taken it up yet",
    ),
    _one_of("reason", RemovalReason),
    CheckConstraint(
        f"(reason = '{RemovalReason.MERGED}') = (merged_into IS NOT NULL)"
        " AND merged_into IS DISTINCT FROM customer_id",
        name="merged_into",
    ),
    Index("ix_removals_outbox", "id", postgresql_where=text("publish_number IS NULL")),
    Index(
        "uq_removals_publish_number",
        "publish_number",
        unique=True,
        postgresql_where=text("publish_number IS NOT NULL"),
    ),
    comment="customers who are gone, for subscribers; their ids are never used again",
)


def _relay(name: str) -> Table:
    """Return the table that says how far the relay has come with an outbox."""
    return Table(
        name,
        metadata,
        Column("one", Boolean, primary_key=True, server_default=text("true")),
        Column("numbered", BigInteger, nullable=False, comment="last publish number given"),
        Column(
            "published", BigInteger, nullable=False, comment="last one known to be in the stream"
        ),
        Column(
            "trimmed",
            BigInteger,
            nullable=False,
            server_default=text("0"),
            comment="everything up to it was trimmed off on purpose",
        ),
        CheckConstraint("one", name="single_row"),
        CheckConstraint("published <= numbered", name="published"),
    )


relay = _relay("relay")
removals_relay = _relay("removals_relay")

unknown_changes = Table(
    "unknown_changes",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("customer_id", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index(None, "customer_id"),
    comment="well-formed changes of the out-stream that this database never published",
)

foreign_entries = Table(
    "foreign_entries",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("stream", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("first_id", Text, nullable=False),
    Column("last_id", Text, nullable=False),
    Column("entries", BigInteger, nullable=False),
    Column("reason", Text, nullable=False, comment="what is wrong with the first one"),
    Column("sample", LargeBinary, nullable=False, comment="the first one's beginning"),
    Column("noticed_at", Moment, nullable=False),
    Column("last_noticed_at", Moment, nullable=False),
    Column("acknowledged_at", Moment),
    Column("acknowledged_by", Text),
    _one_of("kind", ForeignKind),
    comment="what somebody else wrote to a stream of ours, or did to it",
)

_UNUSED = "unused: only workers of an earlier release write it"

sightings = Table(
    "sightings",
    metadata,
    Column("stream", Text, primary_key=True),
    Column("consumer_group", Text, primary_key=True),
    Column("seen_at", Moment, nullable=False),
    Column("added", BigInteger, nullable=False, comment="entries ever added"),
    Column("removed", BigInteger, nullable=False, comment="of them, no longer there"),
    Column("last_id", Text, nullable=False),
    Column("settled_id", Text, nullable=False, comment="all up to it had been acknowledged"),
    Column("listening", Boolean, nullable=False, server_default=text("false"), comment=_UNUSED),
    Column(
        "balance",
        BigInteger,
        nullable=False,
        comment="entries counted here less entries passed on by Redis, at least",
    ),
    Column("read", BigInteger, nullable=False, comment="entries counted here"),
    Column("away_since", Moment, comment=_UNUSED),
    comment="what Redis was last seen to hold of an orders stream",
)

losses = Table(
    "losses",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("stream", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("after_id", Text, nullable=False),
    Column("until_id", Text, nullable=False),
    Column("entries", BigInteger, comment="NULL: nobody knows how many"),
    Column("since", Moment, nullable=False),
    Column("noticed_at", Moment, nullable=False),
    Column("last_noticed_at", Moment, nullable=False),
    Column("acknowledged_at", Moment),
    Column("acknowledged_by", Text),
    _one_of("kind", LossKind),
    CheckConstraint("(acknowledged_at IS NULL) = (acknowledged_by IS NULL)", name="acknowledged"),
    comment="entries that Redis took, and that were gone before they were applied",
)

trims = Table(
    "trims",
    metadata,
    Column("stream", Text, primary_key=True),
    Column("entries", BigInteger, nullable=False, comment="trimmed off so far"),
    Column("held_by", Text, comment="the group that keeps more from being trimmed"),
    Column("held_at", Text, comment="the first entry that it has not acknowledged"),
)

sweep = Table(
    "sweep",
    metadata,
    Column("one", Boolean, primary_key=True, server_default=text("true")),
    Column("swept_until", Moment, nullable=False, comment="whom time moved before is settled"),
    CheckConstraint("one", name="single_row"),
)

settings = Table(
    "settings",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("changed_at", Moment, nullable=False, server_default=func.now()),
    Column("changed_by", Text, nullable=False),
    Column("vip_order_count", Integer, nullable=False),
    Column("vip_total_spent", Amount, nullable=False),
    Column("at_risk_days", Integer, nullable=False),
    Column("inactive_days", Integer, nullable=False),
    Column("auto_segmentation", Boolean, nullable=False),
    Column("precedence", Text, nullable=False),
    Column("count_from", Text, nullable=False, server_default=text(f"'{CountFrom.PLACED}'")),
    Column("count_free_orders", Boolean, nullable=False, server_default=text("true")),
    Column("time_zone", Text, nullable=False, server_default=text("'UTC'")),
    _one_of("precedence", Precedence),
    _one_of("count_from", CountFrom),
    CheckConstraint("at_risk_days >= 1 AND at_risk_days < inactive_days", name="days"),
    CheckConstraint("vip_order_count >= 1 AND vip_total_spent >= 0", name="vip"),
)

segment_counters = Table(
    "segment_counters",
    metadata,
    Column("slot", SmallInteger, primary_key=True, autoincrement=False),
    Column("segment", Text, primary_key=True),
    *_figures(),
    comment="sums over the slots are the statistics; a single slot may be negative",
    postgresql_with={"fillfactor": "20"},
)

daily_changes = Table(
    "daily_changes",
    metadata,
    Column("day", Date, primary_key=True),
    Column("slot", SmallInteger, primary_key=True, autoincrement=False),
    Column("segment", Text, primary_key=True),
    *_figures(),
    comment="by how much the segment counters changed on a day, by when it was told",
    postgresql_with={"fillfactor": "50"},
)

daily_totals = Table(
    "daily_totals",
    metadata,
    Column("day", Date, primary_key=True),
    Column("slot", SmallInteger, primary_key=True, autoincrement=False),
    Column("created", BigInteger, nullable=False, comment="customers, by their dateCreated"),
    Column("orders", BigInteger, nullable=False, comment="that count, by their dateCreated"),
    Column("revenue", Total, nullable=False, comment="of these orders, less refunds"),
    comment="what is dated in a day, whenever it was told",
    postgresql_with={"fillfactor": "50"},
)

daily_generations = Table(
    "daily_generations",
    metadata,
    Column("generation", SmallInteger, Identity(start=1), primary_key=True),
    Column("time_zone", Text, nullable=False, comment="whose days these figures are of"),
    Column("counted_at", Moment, comment="NULL: not complete yet, so nobody reads it"),
    Column("reconstructed_until", Date, comment="changes up to this day come from the orders"),
    CheckConstraint("generation BETWEEN 0 AND 2047", name="generation"),
    comment="sets of daily figures. Writers write all; readers read the newest complete one",
)

reconstructions = Table(
    "reconstructions",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("requested_at", Moment, nullable=False, server_default=func.clock_timestamp()),
    Column("cause", Text, nullable=False),
    _one_of("cause", ReconstructionCause),
    comment="requests to compute the figures of past days from the orders; deleted when done",
)

kept_answers = Table(
    "kept_answers",
    metadata,
    Column("name", Text, primary_key=True),
    Column("as_of", Moment, nullable=False),
    Column("seconds", Double, nullable=False, comment="that it took to compute"),
    Column("answer", JSONB, nullable=False),
    comment="answers that take long, as a worker last computed them",
)

ingest_counters = Table(
    "ingest_counters",
    metadata,
    Column("slot", SmallInteger, primary_key=True, autoincrement=False),
    Column("read", BigInteger, nullable=False, server_default=text("0")),
    Column("applied", BigInteger, nullable=False, server_default=text("0")),
    Column("stale", BigInteger, nullable=False, server_default=text("0")),
    Column("duplicate", BigInteger, nullable=False, server_default=text("0")),
    Column("conflict", BigInteger, nullable=False, server_default=text("0")),
    Column("dead_lettered", BigInteger, nullable=False, server_default=text("0")),
    Column("batches", BigInteger, nullable=False, server_default=text("0")),
    Column("seconds", Numeric, nullable=False, server_default=text("0")),
    Column("size_buckets", ARRAY(BigInteger), nullable=False),
    Column("seconds_buckets", ARRAY(BigInteger), nullable=False),
    comment="what became of every entry read, written with it; what /metrics tells",
    postgresql_with={"fillfactor": "20"},
)

partition_counters = Table(
    "partition_counters",
    metadata,
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("slot", SmallInteger, primary_key=True, autoincrement=False),
    Column("read", BigInteger, nullable=False),
    comment="of the entries read, those of each partition; the rest are of the plain stream",
    postgresql_with={"fillfactor": "20"},
)

verification = Table(
    "verification",
    metadata,
    Column("one", Boolean, primary_key=True, server_default=text("true")),
    Column("verified_at", Moment, nullable=False),
    Column("broken", ARRAY(SmallInteger), nullable=False),
    Column("remembered", JSONB, comment="digests of rows that must not change any more"),
    CheckConstraint("one", name="single_row"),
    comment="the last `crm verify`: when, and which invariants did not hold",
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
    _one_of("fate", Fate),
    comment="dead letters ever measured, and what became of those that are gone",
)

former_emails = Table(
    "former_emails",
    metadata,
    Column("email_key", Key, primary_key=True, comment="nobody's present e-mail"),
    Column(
        "customer_id",
        BigInteger,
        ForeignKey("customers.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    comment="events go on naming people by the e-mail that staff corrected",
)

installation = Table(
    "installation",
    metadata,
    Column("one", Boolean, primary_key=True, server_default=text("true")),
    Column("salt", LargeBinary, nullable=False, comment="of the erased e-mails' hashes"),
    Column("store_currency", Text, comment="set by the first start: amounts are in it"),
    Column("sign_in_since", Moment, comment="set by the first key or user, and never unset"),
    Column("salt_digest", LargeBinary, comment="SHA-256: with another salt, no hash is found"),
    Column(
        "ids_replaced",
        BigInteger,
        nullable=False,
        server_default=text("0"),
        comment="ids that became pseudonyms; 0: nobody looks for pseudonyms",
    ),
    Column(
        "erasures",
        BigInteger,
        nullable=False,
        server_default=text("0"),
        comment="people erased; with each one, the streams are searched from their beginning",
    ),
    Column(
        "late_events",
        BigInteger,
        nullable=False,
        server_default=text("0"),
        comment="batches that named an erased person; the streams are searched on",
    ),
    Column(
        "reassignments",
        BigInteger,
        nullable=False,
        server_default=text("0"),
        comment="identifiers that staff gave away; batches that looked meanwhile run again",
    ),
    CheckConstraint("one", name="single_row"),
    CheckConstraint("coalesce(salt_digest = sha256(salt), false)", name="salt"),
)

erased = Table(
    "erased",
    metadata,
    Column("email_hash", LargeBinary, primary_key=True, comment="SHA-256 of salt and identifier"),
    Column("erased_at", Moment, nullable=False, comment="orders placed until then name nobody"),
)

stream_searches = Table(
    "stream_searches",
    metadata,
    Column("stream", Text, primary_key=True),
    Column("erasures", BigInteger, nullable=False, comment="of the installation, when it began"),
    Column("late_events", BigInteger, nullable=False, comment="of the installation"),
    Column("after_id", Text, nullable=False, comment="entries up to it were searched"),
    Column("until_id", Text, nullable=False, comment="entries up to it are to be searched"),
    Column("entries", BigInteger, nullable=False, comment="deleted so far"),
    comment="how far the entries of erased people have been deleted from the orders streams",
)

audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("at", Moment, nullable=False, server_default=func.clock_timestamp()),
    Column("actor", Text, nullable=False, comment="the key's or the user's name"),
    Column("action", Text, nullable=False, comment="such as customer.updated"),
    Column("customer_id", BigInteger),
    Column("details", JSONB, nullable=False, server_default=text("'{}'")),
    Index(
        "ix_audit_customer_id_id",
        "customer_id",
        "id",
        postgresql_where=text("customer_id IS NOT NULL"),
    ),
    Index(
        "ix_audit_details",
        literal_column("lower(details::text)").label("searched"),
        postgresql_using="gin",
        postgresql_ops={"searched": "gin_trgm_ops"},
        postgresql_where=text("details <> '{}'"),
    ),
)

interactions = Table(
    "interactions",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("customer_id", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("happened_at", Moment, nullable=False),
    Column("author", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("date_created", Moment, nullable=False, server_default=func.clock_timestamp()),
    Column("date_updated", Moment, nullable=False, server_default=func.clock_timestamp()),
    CheckConstraint("kind IN ('call', 'email', 'meeting', 'note')", name="kind"),
    Index(None, "customer_id", "happened_at"),
    Index(
        "ix_interactions_text",
        literal_column("lower(text)").label("searched"),
        postgresql_using="gin",
        postgresql_ops={"searched": "gin_trgm_ops"},
    ),
)

settings_changes = Table(
    "settings_changes",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("total", BigInteger, nullable=False, comment="customers to look at"),
    Column("examined", BigInteger, nullable=False, server_default=text("0")),
    Column("moved", BigInteger, nullable=False, server_default=text("0")),
    Column("last_id", BigInteger, nullable=False, server_default=text("0")),
    Column("started_at", Moment, nullable=False, server_default=func.clock_timestamp()),
    Column(
        "finished_at", Moment, comment="all customers were judged, or a newer version was saved"
    ),
    # The recount of the orders. Workers of the release before do not know it.
    Column(
        "counted_since",
        Integer,
        comment="orders not reached yet count as a version from here on says; 0: nobody knows"
        " how; NULL: no recount",
    ),
    Column("orders_total", BigInteger, nullable=False, server_default=text("0")),
    Column("orders_examined", BigInteger, nullable=False, server_default=text("0")),
    Column("orders_changed", BigInteger, nullable=False, server_default=text("0")),
    Column("customers_moved", BigInteger, nullable=False, server_default=text("0")),
    Column("last_order", Key, nullable=False, server_default=text("''")),
    Column("ids_replaced", BigInteger, comment="of the installation, when the recount began"),
    Column(
        "recounted_at", Moment, comment="NULL: the recount goes on, if no newer version has one"
    ),
    CheckConstraint("0 <= moved AND moved <= examined AND examined <= total", name="progress"),
    CheckConstraint(
        "0 <= orders_changed AND orders_changed <= orders_examined"
        " AND orders_examined <= orders_total AND customers_moved >= 0",
        name="recount_progress",
    ),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("secret_hash", LargeBinary, nullable=False, comment="SHA-256 of 256 random bits"),
    Column("scopes", ARRAY(Text), nullable=False),
    Column("date_created", Moment, nullable=False, server_default=func.now()),
    Column("expires_at", Moment),
    Column("last_used_at", Moment),
    Column("revoked_at", Moment),
    CheckConstraint("scopes <@ ARRAY['read', 'write', 'export', 'erase', 'admin']", name="scopes"),
)

users = Table(
    "users",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("email", Text, nullable=False),
    Column("email_key", Key, nullable=False),
    Column("password_hash", Text, nullable=False, comment="Argon2id"),
    Column("role", Text, nullable=False),
    Column("date_created", Moment, nullable=False, server_default=func.now()),
    Column("last_sign_in_at", Moment),
    Column("disabled_at", Moment),
    UniqueConstraint("email_key"),
    _one_of("role", Role),
)

sessions = Table(
    "sessions",
    metadata,
    Column("token_hash", LargeBinary, primary_key=True, comment="SHA-256 of 256 random bits"),
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("date_created", Moment, nullable=False, server_default=func.now()),
    Column(
        "last_seen_at",
        Moment,
        nullable=False,
        server_default=func.now(),
        comment="to the minute",
    ),
    Column("expires_at", Moment, nullable=False, comment="however it is used"),
)

devices = Table(
    "devices",
    metadata,
    Column("token_hash", LargeBinary, primary_key=True, comment="SHA-256 of 256 random bits"),
    Column(
        "user_id",
        ForeignKey("users.id", ondelete="CASCADE"),
        primary_key=True,
        index=True,
        comment="a browser may have several users",
    ),
    Column("signed_in_at", Moment, nullable=False, server_default=func.now()),
)

# A trigger, because the statement that makes a credential may be anybody's: a worker of the release
# before, or a person with psql. It runs with the rights of the tables' owner, so that none of them
# needs the right to change `installation`.
_END_LOCAL_MODE = """
CREATE FUNCTION end_local_mode() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  EXECUTE format(
    'UPDATE %I.installation SET sign_in_since = now() WHERE sign_in_since IS NULL', TG_TABLE_SCHEMA
  );
  RETURN NULL;
END $$
"""
_ON_FIRST_CREDENTIAL = """
CREATE TRIGGER end_local_mode AFTER INSERT ON {}
FOR EACH STATEMENT EXECUTE FUNCTION end_local_mode()
"""


# Processes of the release before know customers by `email_key` alone. While they run beside this
# release, a trigger tells `identifiers` what they do. If another customer has the identifier, the
# two are merged. Connections of this release set `crm.identifiers`, so that it costs them nothing.
_TAKE_OVER_EMAIL = """
CREATE FUNCTION take_over_email() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  owner bigint;
BEGIN
  EXECUTE format(
    'INSERT INTO %I.identifiers AS i (identifier, customer_id) VALUES ($1, $2)'
    ' ON CONFLICT (identifier) DO UPDATE SET since = i.since RETURNING customer_id', TG_TABLE_SCHEMA
  ) INTO owner USING 'email:' || NEW.email_key, NEW.id;
  IF owner <> NEW.id THEN
    EXECUTE format(
      'INSERT INTO %I.pending_merges (low, high) VALUES ($1, $2) ON CONFLICT DO NOTHING',
      TG_TABLE_SCHEMA
    ) USING least(owner, NEW.id), greatest(owner, NEW.id);
  END IF;
  RETURN NULL;
END $$
"""
_ON_EMAIL = """
CREATE TRIGGER take_over_email AFTER INSERT OR UPDATE OF email_key ON customers FOR EACH ROW
WHEN (new.email_key IS NOT NULL
      AND current_setting('crm.identifiers', true) IS DISTINCT FROM 'written')
EXECUTE FUNCTION take_over_email()
"""
# A worker of the release before re-points an order without a word of what named the customer.
_FORGET_IDENTIFIER = """
CREATE FUNCTION forget_identifier() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.identifier = NULL;
  NEW.other_identifier = NULL;
  RETURN NEW;
END $$
"""
_ON_OWNER = """
CREATE TRIGGER forget_identifier BEFORE UPDATE OF customer_id ON orders FOR EACH ROW
WHEN (old.customer_id IS DISTINCT FROM new.customer_id
      AND current_setting('crm.identifiers', true) IS DISTINCT FROM 'written')
EXECUTE FUNCTION forget_identifier()
"""
# When a process of the release before erases a person, nobody else knows that their e-mail is free.
_FORGET_CUSTOMER = """
CREATE FUNCTION forget_customer() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  EXECUTE format('DELETE FROM %I.identifiers WHERE customer_id = $1', TG_TABLE_SCHEMA)
    USING OLD.id;
  EXECUTE format('DELETE FROM %I.pending_merges WHERE $1 IN (low, high)', TG_TABLE_SCHEMA)
    USING OLD.id;
  EXECUTE format('DELETE FROM %I.separations WHERE $1 IN (low, high)', TG_TABLE_SCHEMA)
    USING OLD.id;
  RETURN NULL;
END $$
"""
_ON_DELETE = """
CREATE TRIGGER forget_customer AFTER DELETE ON customers FOR EACH ROW
WHEN (current_setting('crm.identifiers', true) IS DISTINCT FROM 'written')
EXECUTE FUNCTION forget_customer()
"""
# A worker of the release before does not know what counts, and leaves the new parts of a key alone.
_COUNT_ORDER = f"""
CREATE FUNCTION count_order() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'UPDATE' THEN
    IF NEW.event_id <> OLD.event_id THEN
      NEW.sent_at = NULL;
      NEW.currency = NULL;
      NEW.exchange_rate = NULL;
    END IF;
    IF NEW.named_event_id IS DISTINCT FROM OLD.named_event_id THEN
      NEW.named_sent_at = NULL;
    END IF;
    IF NEW.refunded <> OLD.refunded THEN
      NEW.most_refunded = GREATEST(OLD.most_refunded, OLD.refunded);
      IF NEW.most_refunded <= NEW.refunded THEN
        NEW.most_refunded = NULL;
      END IF;
    END IF;
  END IF;
  IF TG_OP = 'INSERT' OR (NEW.status, NEW.payment_status, NEW.total, NEW.refunded)
     IS DISTINCT FROM (OLD.status, OLD.payment_status, OLD.total, OLD.refunded) THEN
    SELECT {counts_sql()} INTO NEW.counts
    FROM (SELECT NEW.status, NEW.payment_status, NEW.total, NEW.refunded) o, ({COUNTING}) counting;
  END IF;
  RETURN NEW;
END $$
"""
_ON_ORDER = """
CREATE TRIGGER count_order BEFORE INSERT OR UPDATE ON orders FOR EACH ROW
WHEN (current_setting('crm.identifiers', true) IS DISTINCT FROM 'written')
EXECUTE FUNCTION count_order()
"""
_TRIGGERS = (
    _COUNT_ORDER,
    _ON_ORDER,
    _TAKE_OVER_EMAIL,
    _ON_EMAIL,
    _FORGET_IDENTIFIER,
    _ON_OWNER,
    _FORGET_CUSTOMER,
    _ON_DELETE,
)


@event.listens_for(metadata, "after_create")
def _create_triggers(_metadata: MetaData, connection: Connection, **_options: object) -> None:
    for statement in _TRIGGERS:
        connection.exec_driver_sql(statement)
    connection.exec_driver_sql(_END_LOCAL_MODE)
    for table in (users, api_keys):
        connection.exec_driver_sql(_ON_FIRST_CREDENTIAL.format(table.name))
