"""The segment rules, once: as data, read by Python and by SQL alike.

A rule is a set of comparisons ``op(fact, limit)``. Handed numbers and dates they give a bool;
handed SQLAlchemy columns they give an expression, because the operators are the same. Ages are
compared as ``last_order_date <= now - days``, so neither side does interval arithmetic.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import reduce
from typing import Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Segment(StrEnum):
    """Where a customer stands in the lifecycle."""

    NEW = "new"
    RETURNING = "returning"
    VIP = "vip"
    AT_RISK = "at_risk"
    INACTIVE = "inactive"

    @property
    def label(self) -> str:
        """The name staff read."""
        return {"vip": "VIP", "at_risk": "At Risk"}.get(self.value, self.value.title())


class Precedence(StrEnum):
    """Which rule wins when several hold."""

    RECENCY_FIRST = "recency_first"
    VALUE_FIRST = "value_first"


class SegmentSettings(BaseModel):
    """What staff can change. A version of it is a row of the table ``settings``."""

    model_config = ConfigDict(frozen=True)

    vip_order_count: int = Field(3, ge=1, le=1_000_000)
    vip_total_spent: Decimal = Field(Decimal(500), ge=0, le=10**12, decimal_places=2)
    at_risk_days: int = Field(60, ge=1, le=36_500)
    inactive_days: int = Field(90, ge=1, le=36_500)
    auto_segmentation: bool = True
    precedence: Precedence = Precedence.RECENCY_FIRST

    @model_validator(mode="after")
    def _risk_comes_before_inactivity(self) -> Self:
        if self.at_risk_days >= self.inactive_days:
            msg = "at-risk days must be fewer than inactive days"
            raise ValueError(msg)
        return self

    def limits(self, now: datetime) -> "Limits":
        """Turn the settings into the values that facts are compared with at ``now``."""
        return Limits(
            new_order_count=1,
            vip_order_count=self.vip_order_count,
            vip_total_spent=self.vip_total_spent,
            at_risk_before=now - timedelta(days=self.at_risk_days),
            inactive_before=now - timedelta(days=self.inactive_days),
        )


class Facts(NamedTuple):
    """What the rules look at: counted orders, their net sum, the latest one's date.

    Each is a value, or an SQL expression of that type.
    """

    total_orders: Any
    total_spent: Any
    last_order_date: Any


class Limits(NamedTuple):
    """What the facts are compared with; values or SQL expressions."""

    new_order_count: Any
    vip_order_count: Any
    vip_total_spent: Any
    at_risk_before: Any
    inactive_before: Any


@dataclass(frozen=True)
class Comparison:
    """One comparison. A fact that is not there (no order yet) fails every test."""

    fact: str
    op: Callable[[Any, Any], Any]
    limit: str

    def holds(self, facts: Facts, limits: Limits) -> Any:
        """Give a bool for values, an expression for columns (NULL where the fact is NULL)."""
        value = getattr(facts, self.fact)
        return False if value is None else self.op(value, getattr(limits, self.limit))


@dataclass(frozen=True)
class Rule:
    """A segment and the tests of which one suffices."""

    segment: Segment
    any_of: tuple[Comparison, ...]

    def holds(self, facts: Facts, limits: Limits) -> Any:
        """Give a bool for values, an expression for columns."""
        return reduce(operator.or_, (test.holds(facts, limits) for test in self.any_of))


RULES = {
    rule.segment: rule
    for rule in (
        Rule(Segment.NEW, (Comparison("total_orders", operator.le, "new_order_count"),)),
        Rule(
            Segment.VIP,
            (
                Comparison("total_orders", operator.ge, "vip_order_count"),
                Comparison("total_spent", operator.ge, "vip_total_spent"),
            ),
        ),
        Rule(Segment.AT_RISK, (Comparison("last_order_date", operator.le, "at_risk_before"),)),
        Rule(Segment.INACTIVE, (Comparison("last_order_date", operator.le, "inactive_before"),)),
    )
}

OTHERWISE = Segment.RETURNING

ORDER = {
    Precedence.RECENCY_FIRST: (Segment.INACTIVE, Segment.AT_RISK, Segment.VIP, Segment.NEW),
    Precedence.VALUE_FIRST: (Segment.NEW, Segment.VIP, Segment.INACTIVE, Segment.AT_RISK),
}
"""The first rule that holds wins; when none does, `OTHERWISE`."""


def segment_of(facts: Facts, settings: SegmentSettings, now: datetime) -> Segment:
    """Give the segment of one customer by the rules alone, manual holds aside."""
    limits = settings.limits(now)
    for segment in ORDER[settings.precedence]:
        if RULES[segment].holds(facts, limits):
            return segment
    return OTHERWISE
