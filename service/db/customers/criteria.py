"""What one field of a filter means: its SQL, its control in a form, and how a person reads it.

`service.db.customers.customer_filter` has the fields. Lists, cards, exports, saved views and bulk
changes all use them, so a new filter is one field there.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, NamedTuple, Protocol

from pydantic import AfterValidator, BeforeValidator, Field

from service.core.day_or_moment import DayOrMoment
from service.core.rfm import numbers_of
from service.core.store_days import beginning_of
from service.core.tags import tag_key, tag_name
from service.db.store_clock import StoreClock


class Notation(Protocol):
    """How the reader of a filter writes numbers, amounts and dates."""

    def number(self, value: int) -> str:
        """Write a count."""

    def money(self, amount: Decimal) -> str:
        """Write an amount with its cents."""

    def written(self, value: DayOrMoment) -> str:
        """Write a day, or the date and time of a moment."""


class Group(StrEnum):
    """The headings of the form that adds filters."""

    DATES = "Dates"
    ORDERS = "Orders"
    CONTACT = "Contact and consent"
    PLACE = "Place and currency"
    OUTLOOK = "Insight"
    TAGS = "Tags"


class Control(StrEnum):
    """How a form asks for a value."""

    DAY = "day"
    NUMBER = "number"
    AMOUNT = "amount"
    YES_NO = "yes-no"
    TEXT = "text"
    TAGS = "tags"
    WORDS = "words"
    CHOICE = "choice"


class Condition(NamedTuple):
    """A condition on ``customers c``, from one field of a filter."""

    name: str
    """The field's name as requests write it."""
    sql: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Criterion:
    """What a field of a filter means."""

    group: Group
    label: str
    """What the form calls it."""
    words: str
    """How the filter reads. ``{}`` stands for the value; a field that is yes or no has none."""
    sql: str
    """The condition on ``customers c``, with the parameter ``:value``. For yes or no: the
    condition of yes, without a parameter."""
    control: Control
    parameter: Callable[[Any, StoreClock], Any] = lambda value, _: value
    """Turns the value into that of the parameter."""
    write: Callable[[Any, Notation], str] = lambda value, _: str(value)
    """Writes the value for a person."""
    negation: str = ""
    """How the filter reads if the value is no."""

    def condition(self, field: str, name: str, value: Any, clock: StoreClock) -> Condition:
        """Return the condition that a value of a field sets; requests call the field ``name``."""
        if self.control is Control.YES_NO:
            return Condition(name, self.sql if value else f"NOT ({self.sql})", {})
        sql = self.sql.replace(":value", f":{field}")
        return Condition(name, sql, {field: self.parameter(value, clock)})

    def in_words(self, value: Any, notation: Notation) -> str:
        """Return the filter as a person reads it."""
        if self.control is Control.YES_NO:
            return self.words if value else self.negation
        return self.words.format(self.write(value, notation))


# --- The types of values, beside those of `service.core`

_LONGEST_TEXT = 100
_MOST_CHOICES = 50


def without_nul(value: str) -> str:
    """Return a text. Raises ValueError for one that Postgres cannot compare with."""
    if "\x00" in value:
        msg = "contains the character U+0000, which no customer contains; remove it"
        raise ValueError(msg)
    return value


def several(value: object, fold: Callable[[str], str] = str.strip) -> object:
    """Return the parts of a text with commas, or of a list of such texts, each once."""
    written = value if isinstance(value, list) else [value]
    texts = [each for each in written if isinstance(each, str)]
    if len(texts) < len(written):
        return value
    parts = (fold(part.strip()) for each in texts for part in each.split(","))
    return list(dict.fromkeys(filter(None, parts)))


Words = Annotated[str, Field(max_length=_LONGEST_TEXT), AfterValidator(without_nul)]
Choices = Annotated[list[Words], BeforeValidator(several), Field(max_length=_MOST_CHOICES)]
Amount = Annotated[Decimal, Field(ge=0, le=10**12, decimal_places=6)]
Chance = Annotated[Decimal, Field(ge=0, le=1, decimal_places=6)]
Count = Annotated[int, Field(ge=0, le=10**9)]
Days = Annotated[int, Field(ge=1, le=36_500)]
"""A number of days of the store. Today is the first of them."""


Tags = Annotated[
    list[Annotated[str, AfterValidator(tag_name)]],
    BeforeValidator(several),
    Field(max_length=_MOST_CHOICES),
]

# --- The kinds of criteria


def day_from(label: str, words: str, column: str) -> Criterion:
    """Return the criterion that a date is not before a day or a moment."""
    return Criterion(
        Group.DATES,
        label,
        words,
        f"{column} >= :value",
        Control.DAY,
        lambda value, clock: value.start(clock.zone),
        _day_in_words,
    )


def day_to(label: str, words: str, column: str) -> Criterion:
    """Return the criterion that a date is not after a day, or is before a moment."""
    return Criterion(
        Group.DATES,
        label,
        words,
        f"{column} < :value",
        Control.DAY,
        lambda value, clock: value.end(clock.zone),
        _day_in_words,
    )


def within_days(label: str, words: str, column: str) -> Criterion:
    """Return the criterion that a date is one of the last days, today included."""
    return Criterion(
        Group.DATES, label, words, f"{column} >= :value", Control.NUMBER, _days_ago, _days_in_words
    )


def before_days(label: str, words: str, column: str) -> Criterion:
    """Return the criterion that a date is before the last days, the opposite of `within_days`."""
    return Criterion(
        Group.DATES, label, words, f"{column} < :value", Control.NUMBER, _days_ago, _days_in_words
    )


def lapsing(label: str, words: str, sql: str) -> Criterion:
    """Return a criterion about what happens in the next days. ``:value`` is their end."""
    return Criterion(
        Group.DATES,
        label,
        words,
        sql,
        Control.NUMBER,
        lambda days, clock: clock.now + timedelta(days=days),
        _days_in_words,
    )


def number(label: str, words: str, sql: str) -> Criterion:
    """Return a criterion about how many orders there are."""
    return Criterion(
        Group.ORDERS,
        label,
        words,
        sql,
        Control.NUMBER,
        write=lambda value, notation: notation.number(value),
    )


def amount(label: str, words: str, sql: str) -> Criterion:
    """Return a criterion about money, in the store's currency."""
    return Criterion(
        Group.ORDERS,
        label,
        words,
        sql,
        Control.AMOUNT,
        write=lambda value, notation: notation.money(value),
    )


def yes_or_no(label: str, yes: str, no: str, sql: str, group: Group = Group.CONTACT) -> Criterion:
    """Return a criterion that holds, or does not."""
    return Criterion(group, label, yes, sql, Control.YES_NO, negation=no)


def text_among(group: Group, label: str, words: str, sql: str) -> Criterion:
    """Return a criterion about texts of which one is enough. ``:value`` is an array."""
    return Criterion(group, label, words, sql, Control.TEXT, write=_either)


def expected(
    label: str, words: str, comparison: str, write: Callable[[Any, Notation], str]
) -> Criterion:
    """Return a criterion about a number that is expected of them."""
    return Criterion(
        Group.OUTLOOK,
        label,
        words,
        f"c.id IN (SELECT o.customer_id FROM customer_outlook o WHERE o.{comparison})",
        Control.AMOUNT,
        lambda value, _: float(value),
        write,
    )


def in_rfm_group(label: str, words: str) -> Criterion:
    """Return a criterion about RFM groups. Who has no orders has no scores, and is a prospect."""
    return Criterion(
        Group.OUTLOOK,
        label,
        words,
        "(c.id IN (SELECT o.customer_id FROM customer_outlook o"
        " WHERE o.rfm = ANY(CAST(:value AS smallint[])))"
        " OR c.total_orders = 0 AND 0 = ANY(CAST(:value AS smallint[])))",
        Control.TEXT,
        lambda groups, _: [number for group in groups for number in numbers_of(group) or [0]],
        lambda groups, _: " or ".join(group.label for group in groups),
    )


def tagged(label: str, words: str, sql: str, between: str) -> Criterion:
    """Return a criterion about tags. ``:value`` is the array of what they are compared by."""
    return Criterion(
        Group.TAGS,
        label,
        words,
        sql,
        Control.TAGS,
        lambda names, _: sorted({tag_key(name) for name in names}),
        lambda names, _: between.join(names),
    )


def _days_ago(days: int, clock: StoreClock) -> datetime:
    return beginning_of(clock.today - timedelta(days=days - 1), clock.zone)


def _days_in_words(days: int, notation: Notation) -> str:
    return "1 day" if days == 1 else f"{notation.number(days)} days"


def _day_in_words(value: DayOrMoment, notation: Notation) -> str:
    return notation.written(value)


def _either(values: Sequence[str], _: Notation) -> str:
    return " or ".join(values)
