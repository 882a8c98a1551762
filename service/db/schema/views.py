"""Saved views: filters with a name, and how many customers they have chosen each day."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    Double,
    Identity,
    Table,
    Text,
    UniqueConstraint,
    func,
)
from sqlalchemy.dialects.postgresql import JSONB

from service.db.schema.base import Moment, metadata

views = Table(
    "views",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("owner", Text, nullable=False, comment="the key's or the user's name"),
    Column("name", Text, nullable=False),
    Column("shared", Boolean, nullable=False, comment="everybody sees it"),
    Column("filter", JSONB, nullable=False, comment="as requests write it"),
    Column("sort", Text, nullable=False, comment="as requests write it"),
    Column("date_created", Moment, nullable=False, server_default=func.clock_timestamp()),
    Column("date_updated", Moment, nullable=False, server_default=func.clock_timestamp()),
    UniqueConstraint("owner", "name"),
)

view_counts = Table(
    "view_counts",
    metadata,
    Column("view", Text, primary_key=True, comment="its id, or the name of one that we define"),
    Column("day", Date, primary_key=True, comment="of the store"),
    Column("customers", BigInteger, nullable=False, comment="at the last count of the day"),
    Column("counted_at", Moment, nullable=False),
    Column("seconds", Double, nullable=False, comment="that the count took"),
    comment="how many customers each view has chosen; a worker counts",
)
