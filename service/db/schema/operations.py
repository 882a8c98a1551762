"""What the worker remembers of the streams, and facts of the installation."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Identity,
    Integer,
    LargeBinary,
    Numeric,
    SmallInteger,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from service.core.loss_arithmetic import LossKind
from service.db.schema.base import Moment, metadata, one_of

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
    one_of("kind", LossKind),
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
