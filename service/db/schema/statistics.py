"""Counters and daily figures that the statistics are read from."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Date,
    Double,
    Identity,
    Integer,
    SmallInteger,
    Table,
    Text,
    func,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from service.core.reconstruction import ReconstructionCause
from service.db.schema.base import Moment, Total, figures, metadata, one_of

segment_counters = Table(
    "segment_counters",
    metadata,
    Column("slot", SmallInteger, primary_key=True, autoincrement=False),
    Column("segment", Text, primary_key=True),
    *figures(),
    comment="sums over the slots are the statistics; a single slot may be negative",
    postgresql_with={"fillfactor": "20"},
)

daily_changes = Table(
    "daily_changes",
    metadata,
    Column("day", Date, primary_key=True),
    Column("slot", SmallInteger, primary_key=True, autoincrement=False),
    Column("segment", Text, primary_key=True),
    *figures(),
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
    one_of("cause", ReconstructionCause),
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

span_customers = Table(
    "span_customers",
    metadata,
    Column("segment", Text, primary_key=True),
    Column("orders", SmallInteger, primary_key=True, autoincrement=False, comment="2: or more"),
    Column("bucket", Integer, primary_key=True, autoincrement=False, comment="of total_spent"),
    Column("created", ARRAY(Moment), nullable=False, comment="date_created, in order"),
    Column("spent", ARRAY(BigInteger), nullable=False, comment="in cents, up to each of these"),
    comment="customers as of a moment, so that statistics of any span of time add up few rows",
)

span_orders = Table(
    "span_orders",
    metadata,
    Column("day", Date, primary_key=True, comment="of the store"),
    Column("unattributed", BigInteger, nullable=False, comment="orders placed on it"),
    Column("earlier", ARRAY(Date), nullable=False, comment="when its customers ordered before"),
    Column("orders", ARRAY(BigInteger), nullable=False, comment="counted, up to each of these"),
    comment="orders as of a moment, so that customers who ordered in any days can be counted",
)
