"""The filter of customers as people and programs write it, and what each of its fields means.

Each field is one filter: its type reads and checks what was written, and its `Criterion` says what
it means. Lists, cards, exports, saved views and bulk changes all read this model. Addresses, JSON
bodies, forms and stored views have the same names and values. So a new filter is a new field.
"""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import InitErrorDetails, PydanticCustomError

from service.core.day_or_moment import Bound
from service.core.own_fields import OwnField
from service.core.rfm import RfmGroup
from service.core.segment_rules import AGE_LIMITS, Segment
from service.db.customers.criteria import (
    Amount,
    Chance,
    Choices,
    Count,
    Criterion,
    Days,
    Group,
    Notation,
    Tags,
    amount,
    before_days,
    day_from,
    day_to,
    expected,
    in_rfm_group,
    lapsing,
    number,
    several,
    tagged,
    text_among,
    within_days,
    without_nul,
    yes_or_no,
)
from service.db.customers.filters import Filter
from service.db.customers.own_fields.field_filter import MOST_TESTS, NAME_PATTERN, FieldFilter
from service.db.segments.rules_sql import lapsing_sql, later_sql
from service.db.store_clock import STORE_ZONE, StoreClock

_FROM = "ISO 8601, included. A day without a time is one of the store's time zone."
_TO = (
    "ISO 8601, excluded. A day without a time is one of the store's time zone, and is included as "
    "a whole."
)
_WITHIN = "One of so many days of the store, of which today is the last."
_BEFORE = "Before so many days of the store, of which today is the last."
_INCLUDED = "Included."
_AVERAGE = "Included. `totalSpent` / `totalOrders`; who has no order has no average."
_THEN = "CAST(:value AS timestamptz)"
_LAPSING = f"""c.segment <> '{Segment.INACTIVE}'
  AND c.last_order_date <= {_THEN} - (
    SELECT {AGE_LIMITS["at_risk_before"]} * interval '24 hours'
    FROM settings ORDER BY version DESC LIMIT 1)
  AND (WITH {later_sql(_THEN)} SELECT {lapsing_sql("c", "later", _THEN)} FROM later)"""
"""The first two conditions hold of all who lapse, and spare the others the third."""


def _any_of(expression: str) -> str:
    """Return the condition that a text is one of the array ``:value``, in any case."""
    return (
        f"lower({expression}) = ANY(ARRAY(SELECT lower(each)"
        " FROM unnest(CAST(:value AS text[])) each))"
    )


_TAGGED = """FROM customer_tags ct JOIN tags t ON t.id = ct.tag_id
  WHERE t.folded = ANY(CAST(:value AS text[]))"""
# Most orders are in the store's currency. Those in others have an index of their own.
_HAS_CURRENCY = """(EXISTS (
    SELECT FROM orders o WHERE o.customer_id = c.id AND o.counts
      AND o.currency IS NOT NULL AND o.currency = ANY(CAST(:value AS text[])))
  OR (SELECT store_currency FROM installation) = ANY(CAST(:value AS text[]))
    AND c.total_orders > (
      SELECT count(*) FROM orders o
      WHERE o.customer_id = c.id AND o.counts AND o.currency IS NOT NULL))"""


_CHANCE = "Of an order within 90 days, 0 to 1. Included. Only customers with an outlook."
_EXPECTED = "Within 12 months, in the store's currency. Included. Only customers with an outlook."
_OVERDUE = f"""c.id IN (
  SELECT o.customer_id FROM customer_outlook o
  WHERE o.overdue_on < CAST(now() AT TIME ZONE {STORE_ZONE} AS date))"""


def _as_percentage(chance: Decimal, _: Notation) -> str:
    return f"{100 * chance:g} %"


def _as_money(value: Decimal, notation: Notation) -> str:
    return notation.money(value)


def _as_rfm_group(written: str) -> str:
    return written.strip().lower().replace(" ", "_")


def _schema(schema: dict[str, Any]) -> None:
    """Allow the names of filters by own fields in the schema."""
    schema["examples"] = [{"search": "jane@example.com"}, {"segment": ["vip"]}]
    schema["additionalProperties"] = False
    schema["patternProperties"] = {
        NAME_PATTERN: {
            "description": "By an own field: `field.key` is one or more of its values, "
            "`field.keyFrom` and `field.keyTo` are numbers or days, both included, "
            "`field.keyContains` is a part of a text, and `field.keyEmpty` is true or false."
        }
    }


class CustomerFilter(BaseModel):
    """The filter of a list or an export. Fields that are absent filter nothing.

    Filters by own fields are further names: see `service.db.customers.own_fields.field_filter`.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="allow",
        frozen=True,
        json_schema_extra=_schema,
    )
    ignores_unknown: ClassVar[bool] = False
    """Whether names that mean nothing are left out. Otherwise they are refused."""

    segment: Annotated[list[Segment], BeforeValidator(several)] = Field(
        [], description="One or more segments: repeated, or separated by commas."
    )
    search: Annotated[str, AfterValidator(without_nul)] = Field(
        "",
        max_length=200,
        description="What each customer has: words or parts of words of the name, e-mails, phones, "
        "postal code, notes, tags, ids of other systems; an order's id, or the customer's own. "
        "Every word must be found, in any order; words in double quotes stay together. Case and "
        "accents make no difference, and phones are found in any writing.",
    )

    date_from: Annotated[
        Bound | None, day_from("Created from", "Created from {}", "c.date_created")
    ] = Field(None, description=_FROM)
    date_to: Annotated[
        Bound | None, day_to("Created until", "Created until {}", "c.date_created")
    ] = Field(None, description=_TO)
    created_within: Annotated[
        Days | None,
        within_days("Created in the last … days", "Created in the last {}", "c.date_created"),
    ] = Field(None, description=_WITHIN)
    created_before: Annotated[
        Days | None,
        before_days("Created more than … days ago", "Created more than {} ago", "c.date_created"),
    ] = Field(None, description=_BEFORE)
    first_order_from: Annotated[
        Bound | None, day_from("First order from", "First order from {}", "c.first_order_date")
    ] = Field(None, description=_FROM)
    first_order_to: Annotated[
        Bound | None, day_to("First order until", "First order until {}", "c.first_order_date")
    ] = Field(None, description=_TO)
    first_order_within: Annotated[
        Days | None,
        within_days(
            "First order in the last … days", "First order in the last {}", "c.first_order_date"
        ),
    ] = Field(None, description=_WITHIN)
    first_order_before: Annotated[
        Days | None,
        before_days(
            "First order more than … days ago",
            "First order more than {} ago",
            "c.first_order_date",
        ),
    ] = Field(None, description=_BEFORE)
    last_order_from: Annotated[
        Bound | None, day_from("Last order from", "Last order from {}", "c.last_order_date")
    ] = Field(None, description=_FROM)
    last_order_to: Annotated[
        Bound | None, day_to("Last order until", "Last order until {}", "c.last_order_date")
    ] = Field(None, description=_TO)
    last_order_within: Annotated[
        Days | None,
        within_days(
            "Last order in the last … days", "Last order in the last {}", "c.last_order_date"
        ),
    ] = Field(None, description=_WITHIN)
    last_order_before: Annotated[
        Days | None,
        before_days(
            "Last order more than … days ago", "Last order more than {} ago", "c.last_order_date"
        ),
    ] = Field(None, description=_BEFORE)
    lapses_within: Annotated[
        Days | None,
        lapsing(
            "Lapses within … days",
            "At risk or inactive within {} without an order",
            _LAPSING,
        ),
    ] = Field(
        None,
        description="Without another order, the rules move them down within so many days of 24 "
        "hours: to at risk, or on to inactive. Who is held by hand until then is left out.",
    )

    orders_from: Annotated[
        Count | None, number("Orders, at least", "Orders: {} or more", "c.total_orders >= :value")
    ] = Field(None, description=_INCLUDED)
    orders_to: Annotated[
        Count | None, number("Orders, at most", "Orders: {} or fewer", "c.total_orders <= :value")
    ] = Field(None, description=_INCLUDED)
    spent_from: Annotated[
        Amount | None, amount("Spent, at least", "Spent {} or more", "c.total_spent >= :value")
    ] = Field(None, description=_INCLUDED)
    spent_to: Annotated[
        Amount | None, amount("Spent, at most", "Spent {} or less", "c.total_spent <= :value")
    ] = Field(None, description=_INCLUDED)
    average_from: Annotated[
        Amount | None,
        amount(
            "Average order, at least",
            "Average order {} or more",
            "c.total_orders > 0 AND c.total_spent >= CAST(:value AS numeric) * c.total_orders",
        ),
    ] = Field(None, description=_AVERAGE)
    average_to: Annotated[
        Amount | None,
        amount(
            "Average order, at most",
            "Average order {} or less",
            "c.total_orders > 0 AND c.total_spent <= CAST(:value AS numeric) * c.total_orders",
        ),
    ] = Field(None, description=_AVERAGE)

    email_opt_in: Annotated[
        bool | None,
        yes_or_no(
            "Agreed to e-mail", "Agreed to e-mail", "Has not agreed to e-mail", "c.email_opt_in"
        ),
    ] = Field(None, description="Whether they agreed to marketing by e-mail.")
    sms_opt_in: Annotated[
        bool | None,
        yes_or_no("Agreed to SMS", "Agreed to SMS", "Has not agreed to SMS", "c.sms_opt_in"),
    ] = Field(None, description="Whether they agreed to marketing by SMS.")
    has_email: Annotated[
        bool | None, yes_or_no("Has an e-mail", "Has an e-mail", "No e-mail", "c.email IS NOT NULL")
    ] = Field(None, description="Whether their e-mail is known.")
    has_phone: Annotated[
        bool | None, yes_or_no("Has a phone", "Has a phone", "No phone", "c.phone IS NOT NULL")
    ] = Field(None, description="Whether their phone is known.")

    city: Annotated[
        Choices, text_among(Group.PLACE, "City", "City: {}", _any_of("c.address ->> 'city'"))
    ] = Field([], description="The city of their address, in upper or lower case. One or more.")
    country: Annotated[
        Choices,
        text_among(Group.PLACE, "Country", "Country: {}", _any_of("c.address ->> 'country'")),
    ] = Field(
        [], description="The country as their address has it, in upper or lower case. One or more."
    )
    currency: Annotated[
        list[Annotated[str, Field(pattern="^[A-Z]{3}$")]],
        BeforeValidator(lambda value: several(value, str.upper)),
        text_among(Group.PLACE, "Currency of an order", "Ordered in {}", _HAS_CURRENCY),
    ] = Field([], description="They have a counted order in one of these currencies (ISO 4217).")

    chance_from: Annotated[
        Chance | None,
        expected(
            "Chance of an order in 90 days, at least (0 to 1)",
            "Chance of an order in 90 days: {} or more",
            "chance >= CAST(:value AS real)",
            _as_percentage,
        ),
    ] = Field(None, description=_CHANCE)
    chance_to: Annotated[
        Chance | None,
        expected(
            "Chance of an order in 90 days, at most (0 to 1)",
            "Chance of an order in 90 days: {} or less",
            "chance <= CAST(:value AS real)",
            _as_percentage,
        ),
    ] = Field(None, description=_CHANCE)
    expected_value_from: Annotated[
        Amount | None,
        expected(
            "Expected in 12 months, at least",
            "Expected in 12 months: {} or more",
            "value >= CAST(:value AS real)",
            _as_money,
        ),
    ] = Field(None, description=_EXPECTED)
    expected_value_to: Annotated[
        Amount | None,
        expected(
            "Expected in 12 months, at most",
            "Expected in 12 months: {} or less",
            "value <= CAST(:value AS real)",
            _as_money,
        ),
    ] = Field(None, description=_EXPECTED)
    overdue: Annotated[
        bool | None,
        yes_or_no("Overdue", "Overdue", "Not overdue", _OVERDUE, Group.OUTLOOK),
    ] = Field(None, description="Silent for longer than is usual for them.")
    rfm: Annotated[
        list[RfmGroup],
        BeforeValidator(lambda value: several(value, _as_rfm_group)),
        in_rfm_group("RFM group", "RFM: {}"),
    ] = Field([], description="They are in one of these RFM groups.")

    tags_all: Annotated[
        Tags,
        tagged(
            "With all of the tags",
            "Tags: {}",
            f"c.id IN (SELECT ct.customer_id {_TAGGED} GROUP BY ct.customer_id"
            " HAVING count(*) = cardinality(CAST(:value AS text[])))",
            " and ",
        ),
    ] = Field([], description="They have all of these tags.")
    tags_any: Annotated[
        Tags,
        tagged(
            "With any of the tags",
            "Tags: {}",
            f"c.id IN (SELECT ct.customer_id {_TAGGED})",
            " or ",
        ),
    ] = Field([], description="They have one or more of these tags.")
    tags_none: Annotated[
        Tags,
        tagged(
            "With none of the tags",
            "Without tag {}",
            f"NOT EXISTS (SELECT {_TAGGED} AND ct.customer_id = c.id)",
            " or ",
        ),
    ] = Field([], description="They have none of these tags.")

    @model_validator(mode="before")
    @classmethod
    def _read_own(cls, given: object) -> object:
        """Read filters by own fields, and treat other unknown names."""
        if not isinstance(given, dict):
            return given
        known = {*cls.model_fields, *map(to_camel, cls.model_fields)}
        read, faults = dict[str, Any](), list[InitErrorDetails]()
        own_names = [name for name in given if FieldFilter.named(name)]
        if len(own_names) > MOST_TESTS:
            reason = f"has more than {MOST_TESTS} filters by own fields"
            raise ValueError(reason)
        for name, value in given.items():
            own = FieldFilter.named(name)
            if name in known:
                read[name] = value
            elif own is None:
                fault = InitErrorDetails(type="extra_forbidden", loc=(name,), input=value)
                faults += [] if cls.ignores_unknown else [fault]
            elif value is not None:
                try:
                    read[name] = own.read(value)
                except ValueError as error:
                    faults.append(_fault(name, value, error))
        if faults:
            raise ValidationError.from_exception_data(cls.__name__, faults)
        return read

    def without(self, *fields: str) -> Self:
        """Return the filter without some of its fields."""
        return self.model_copy(update={name: _default(name) for name in fields})

    @property
    def own(self) -> list[tuple[FieldFilter, Any]]:
        """The filters by own fields, and their values."""
        extra = self.model_extra or {}
        return [(own, extra[name]) for name in extra if (own := FieldFilter.named(name))]

    def misfits(self, fields: Sequence[OwnField]) -> dict[str, str]:
        """Return what is wrong with filters by own fields, by name, if there are these fields."""
        return {
            own.name: misfit for own, value in self.own if (misfit := own.misfit(fields, value))
        }

    @property
    def used(self) -> dict[str, Any]:
        """The fields that filter something, and their values."""
        return {
            field: value
            for field in CustomerFilter.model_fields
            if (value := getattr(self, field)) not in (None, "", [])
        } | {own.name: value for own, value in self.own}

    @property
    def query(self) -> dict[str, str]:
        """The fields that filter something, as an address has them."""
        plain = self.model_dump(mode="json", by_alias=True, include=set(self.used))
        return {name: _as_text(value) for name, value in plain.items()}

    @property
    def stored(self) -> dict[str, Any]:
        """The fields that filter something, as JSON that `model_validate` reads."""
        return self.model_dump(mode="json", by_alias=True, include=set(self.used))

    def chosen(self, clock: StoreClock) -> Filter:
        """Return the filter for the database, at this moment. Days are those of the store."""
        return Filter(
            segments=tuple(self.segment),
            search=self.search,
            date_from=self.date_from and self.date_from.start(clock.zone),
            date_to=self.date_to and self.date_to.end(clock.zone),
            conditions=tuple(
                criterion.condition(field, to_camel(field), value, clock)
                for field, value, criterion in self.criteria
                if field not in _OF_FILTER
            )
            + tuple(own.condition(value) for own, value in self.own),
        )

    @property
    def criteria(self) -> Iterator[tuple[str, Any, Criterion]]:
        """The fields that filter something and have a criterion: name, value, criterion."""
        for field, value in self.used.items():
            if field in CRITERIA:
                yield field, value, CRITERIA[field]


EVERYBODY = CustomerFilter()
CRITERIA: Mapping[str, Criterion] = {
    field: criterion
    for field, info in CustomerFilter.model_fields.items()
    for criterion in info.metadata
    if isinstance(criterion, Criterion)
}
"""What each field means. ``segment`` and ``search`` are not among them: lists show these by
controls of their own."""
_OF_FILTER = frozenset({"date_from", "date_to"})
"""The dates that a `Filter` has by itself, because cards are compared with other dates."""


def _fault(name: str, value: object, error: ValueError) -> InitErrorDetails:
    """Return the fault of a filter by an own field."""
    kind, reason, context = "value_error", str(error), dict[str, Any]()
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        kind, context = first["type"], first.get("ctx", {})
        reason = first["msg"].removeprefix("Value error, ")
    # Braces would be read as names of the context.
    plain = reason.replace("{", "(").replace("}", ")")
    context = {key: value for key, value in context.items() if key != "error"}
    return InitErrorDetails(
        type=PydanticCustomError(kind, plain, context), loc=(name,), input=value
    )


def _default(field: str) -> Any:
    return CustomerFilter.model_fields[field].get_default()


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ",".join(value) if isinstance(value, list) else str(value)
