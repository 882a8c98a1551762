"""What all tables share: their metadata, the types of columns, and columns that come in groups."""

from collections.abc import Iterator
from decimal import Decimal
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    MetaData,
    Numeric,
    String,
    text,
)

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


def one_of(column: str, values: type[StrEnum]) -> CheckConstraint:
    """Return the constraint that a column has one of the values of an enum."""
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def figures() -> Iterator[Column[Any]]:
    """Yield a column per figure.

    Each has a default, because workers of the previous release write rows without a new figure.
    """
    for name, kind in SegmentFigures.__annotations__.items():
        kind_in_sql = Total if kind is Decimal else BigInteger()
        yield Column(name, kind_in_sql, nullable=False, server_default=text("0"))


def register(name: str, kind: Any) -> Iterator[Column[Any]]:
    """Yield the columns of a register: a value and the key (time, event id) that it came with.

    A value that a person typed has the time infinity, because no event is later than that.
    """
    yield Column(name, kind)
    yield Column(f"{name}_at", Moment)
    yield Column(f"{name}_event", Key)
