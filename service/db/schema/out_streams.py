"""What is published, how far the relay has come, and what others wrote to the out-streams."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Identity,
    Index,
    LargeBinary,
    Table,
    Text,
    text,
)

from service.core.foreign_kinds import ForeignKind
from service.core.removal_event import RemovalReason
from service.db.schema.base import Moment, metadata, one_of

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
    one_of("reason", RemovalReason),
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
    one_of("kind", ForeignKind),
    comment="what somebody else wrote to a stream of ours, or did to it",
)
