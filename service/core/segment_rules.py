"""The segment rules as data: Python and SQL are both generated from them.

A rule is a set of comparisons ``op(fact, limit)``. With numbers and dates a comparison returns a
bool. With SQLAlchemy columns it returns an SQL expression, because the operators are the same. Ages
are compared as ``last_order_date <= now - days``, so that neither side does interval arithmetic.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import reduce
from typing import Annotated, Any, NamedTuple, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from service.core.counting import CountFrom
from service.core.time_zones import known_time_zone


class Segment(StrEnum):
    """A customer's stage in the lifecycle."""

    NEW = "new"
    RETURNING = "returning"
    VIP = "vip"
    AT_RISK = "at_risk"
    INACTIVE = "inactive"

    @property
    def label(self) -> str:
        """Return the name that staff read."""
        return {"vip": "VIP", "at_risk": "At Risk"}.get(self.value, self.value.title())


KNOWN_SEGMENTS = frozenset(Segment)
"""A later release may have stored others, which this one leaves out of its answers."""


class Precedence(StrEnum):
    """Which rule wins if several hold."""

    RECENCY_FIRST = "recency_first"
    VALUE_FIRST = "value_first"


class SegmentSettings(BaseModel):
    """The settings that staff can change. Each version is a row of the table ``settings``."""

    model_config = ConfigDict(frozen=True)

    vip_order_count: int = Field(3, ge=1, le=1_000_000)
    vip_total_spent: Decimal = Field(Decimal(500), ge=0, le=10**12, decimal_places=2)
    at_risk_days: int = Field(60, ge=1, le=36_500)
    inactive_days: int = Field(90, ge=1, le=36_500)
    auto_segmentation: bool = True
    precedence: Precedence = Precedence.RECENCY_FIRST
    count_from: CountFrom = CountFrom.PLACED
    count_free_orders: bool = True
    """Whether orders with a total of 0 count."""
    time_zone: Annotated[str, AfterValidator(known_time_zone)] = "UTC"
    """The store's, as in the IANA database. Days and months are those of this zone."""

    @model_validator(mode="after")
    def _risk_comes_before_inactivity(self) -> Self:
        if self.at_risk_days >= self.inactive_days:
            msg = "at-risk days must be fewer than inactive days"
            raise ValueError(msg)
        return self

    def limits(self, now: datetime) -> "Limits":
        """Return the values that facts are compared with at ``now``."""
        ages = {limit: getattr(self, setting) for limit, setting in AGE_LIMITS.items()}
        values = {name: getattr(self, name) for name in Limits._fields if hasattr(self, name)}
        before = {limit: now - timedelta(days=days) for limit, days in ages.items()}
        return Limits(**CONSTANT_LIMITS, **values, **before)


class Facts(NamedTuple):
    """The facts that the rules look at: values, or SQL expressions of that type."""

    total_orders: Any
    """Counted orders."""
    total_spent: Any
    """Their totals less refunds."""
    last_order_date: Any
    """The date of the latest counted order. None if there is none."""


class Limits(NamedTuple):
    """The values that facts are compared with, or SQL expressions of that type.

    A limit is a setting of the same name, unless `CONSTANT_LIMITS` or `AGE_LIMITS` says otherwise.
    """

    new_order_count: Any
    vip_order_count: Any
    vip_total_spent: Any
    at_risk_before: Any
    inactive_before: Any


CONSTANT_LIMITS = {"new_order_count": 1}
"""Limits that are constants and not settings."""
AGE_LIMITS = {"at_risk_before": "at_risk_days", "inactive_before": "inactive_days"}
"""Limits that are moments. Each maps to the setting that says how many days of 24 hours ago."""


@dataclass(frozen=True)
class Comparison:
    """A comparison of a fact with a limit. It does not hold if the fact is missing.

    The last order date is missing if the customer has no orders.
    """

    fact: str
    op: Callable[[Any, Any], Any]
    limit: str

    def holds(self, facts: Facts, limits: Limits) -> Any:
        """Return a bool for values, an expression for columns (NULL where the fact is NULL)."""
        value = getattr(facts, self.fact)
        return False if value is None else self.op(value, getattr(limits, self.limit))


@dataclass(frozen=True)
class Rule:
    """A segment and its comparisons. The rule holds if any one of them holds."""

    segment: Segment
    any_of: tuple[Comparison, ...]

    def holds(self, facts: Facts, limits: Limits) -> Any:
        """Return a bool for values, an expression for columns."""
        held = (comparison.holds(facts, limits) for comparison in self.any_of)
        return reduce(operator.or_, held)


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
"""The segment when no rule holds."""

ORDER = {
    Precedence.RECENCY_FIRST: (Segment.INACTIVE, Segment.AT_RISK, Segment.VIP, Segment.NEW),
    Precedence.VALUE_FIRST: (Segment.NEW, Segment.VIP, Segment.INACTIVE, Segment.AT_RISK),
}
"""The order in which rules are tried: the first one that holds wins."""


def segment_of(facts: Facts, settings: SegmentSettings, now: datetime) -> Segment:
    """Return the segment that the rules alone give a customer; manual holds are ignored."""
    limits = settings.limits(now)
    for segment in ORDER[settings.precedence]:
        if RULES[segment].holds(facts, limits):
            return segment
    return OTHERWISE
