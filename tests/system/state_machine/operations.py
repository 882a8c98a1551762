"""The operations, in a form that reads well when a test fails, and strategies that draw them.

``whom`` and ``again`` pick by number among the customers or events that exist at that step. So
every sequence is valid, even after Hypothesis has removed some of its steps.
"""

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from tests.system.state_machine.model import email, external

PAYMENTS = [None, "pending", "paid", "failed", "refunded", "partially_refunded"]
EMAILS = ["a@x.org", "b@x.org", "C@x.org"]
EXTERNALS = ["7", "8"]
"""Ids of customers in the shop's own system."""


@dataclass(frozen=True)
class Story:
    """An event to be built. Times are days before it is published; negative ones lie after."""

    order: str
    version: int
    created: float
    updated: float
    status: str
    payment: str | None
    amounts: tuple[str, str]
    email: str | None
    by_ref: int | None
    """The number of a customer that the event names by ``CUST-…``, which outranks its e-mail."""
    name: str | None
    phone: str | None
    external: str | None = None
    """The customer's id in the shop's own system. An event has only one id."""
    currency: tuple[str, str | None] | None = None
    """Another currency than the store's, and its exchange rate."""


@dataclass(frozen=True)
class Publish:
    """A batch of new events, and of some earlier ones once more."""

    stories: tuple[Story, ...]
    again: tuple[int, ...] = ()


@dataclass(frozen=True)
class Create:
    body: dict[str, Any]


@dataclass(frozen=True)
class Edit:
    """An edit; ``segmentPinnedUntil`` is a number of days from its time."""

    whom: int
    body: dict[str, Any]


@dataclass(frozen=True)
class Erase:
    whom: int


@dataclass(frozen=True)
class Merge:
    whom: int
    other: int


@dataclass(frozen=True)
class Split:
    """A split; the bits of ``which`` choose among the customer's identifiers."""

    whom: int
    which: int


@dataclass(frozen=True)
class Mark:
    """Mark an identifier as no person; if it is marked, take the mark away."""

    identifier: str


@dataclass(frozen=True)
class Change:
    """New settings, and what happens while they are applied to a part of the orders."""

    settings: dict[str, Any]
    meanwhile: tuple[Publish | Erase | Merge, ...] = ()


@dataclass(frozen=True)
class Move:
    """The store moves to another time zone, and past days are computed from the orders."""

    zone: str


@dataclass(frozen=True)
class Wait:
    days: int


Operation = Publish | Create | Edit | Erase | Merge | Split | Mark | Change | Move | Wait

_names = st.sampled_from(["Ann", "Bob", "Zoë"])
_phones = st.sampled_from(["1", "2"])
_ages = st.sampled_from([0, 0, -0.25, 1, 30, 59, 60, 61, 90, 200])

stories = st.builds(
    Story,
    order=st.sampled_from(["ORD-1", "ORD-2", "ORD-3", "ORD-4", "ORD-5"]),
    version=st.sampled_from([0, 1, 1, 2, 3]),
    created=_ages,
    updated=st.sampled_from([0, 0, 1, 30]),
    status=st.sampled_from(["completed", "completed", "pending", "cancelled", "refunded"]),
    payment=st.sampled_from(["paid", "paid", "paid", *PAYMENTS]),
    amounts=st.sampled_from(
        [("0", "0"), ("99.99", "0"), ("250", "49.99"), ("500", "0"), ("60", "75"), ("80", "80")]
    ),
    email=st.sampled_from([*EMAILS, *EMAILS, "A@X.org", None]),
    by_ref=st.sampled_from([None, None, None, None, 0, 1]),
    name=st.none() | _names,
    phone=st.none() | _phones,
    external=st.sampled_from([None, None, *EXTERNALS]),
    currency=st.sampled_from([None, None, None, ("EUR", None), ("EUR", "1.0853")]),
)

_segments = st.sampled_from(["new", "returning", "vip", "at_risk", "inactive"])
_holds: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"segment": _segments}),
    st.fixed_dictionaries({"segment": _segments, "segmentPinned": st.booleans()}),
    st.fixed_dictionaries(
        {"segmentPinnedUntil": st.sampled_from([1, 5, 40])}, optional={"segment": _segments}
    ),
)
_back: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [
        {"segment": None},
        {"segmentPinned": False},
        {"segmentPinned": True},
        {"segmentPinnedUntil": None},
    ]
)
_profile = st.fixed_dictionaries(
    {},
    optional={
        "name": _names,
        "phone": st.none() | _phones,
        "notes": st.sampled_from(["", "likes tea"]),
        "fields": st.fixed_dictionaries(
            {}, optional={"size": st.sampled_from([None, 1, 2]), "age": st.sampled_from([None, 30])}
        ),
        "email": st.sampled_from([*EMAILS, "d@x.org"]),
    },
)
_creates = st.builds(
    lambda email, name, more, hold: Create({"email": email, "name": name, **more, **hold}),
    st.sampled_from(EMAILS),
    _names,
    st.fixed_dictionaries({}, optional={"phone": st.none() | _phones}),
    _holds,
)
_whom = st.integers(0, 3)
_publishes = st.builds(
    Publish,
    st.lists(stories, min_size=1, max_size=4).map(tuple),
    st.lists(st.integers(0, 20), max_size=3).map(tuple),
)
_edits = st.builds(
    lambda whom, more, hold: Edit(whom, {**more, **hold}), _whom, _profile, _holds | _back
)
_changes = st.builds(
    Change,
    st.fixed_dictionaries(
        {},
        optional={
            "vipOrderCount": st.sampled_from([1, 2, 3]),
            "vipTotalSpent": st.sampled_from([100, 500]),
            "atRiskDays": st.sampled_from([1, 30, 60]),
            "inactiveDays": st.sampled_from([61, 90]),
            "autoSegmentation": st.sampled_from([True, True, False]),
            "precedence": st.sampled_from(["recency_first", "value_first"]),
            "countFrom": st.sampled_from(["placed", "paid"]),
            "countFreeOrders": st.booleans(),
        },
    ),
    st.lists(
        st.one_of(_publishes, st.builds(Erase, _whom), st.builds(Merge, _whom, _whom)), max_size=2
    ).map(tuple),
)
# When days pass, stored times are moved back by whole days, so clocks must not change.
_moves = st.builds(Move, st.sampled_from(["UTC", "Asia/Kathmandu", "Pacific/Kiritimati"]))
_waits = st.builds(Wait, st.sampled_from([1, 5, 29, 30, 60, 90]))

operations: st.SearchStrategy[Operation] = st.one_of(
    _publishes,
    _publishes,
    _creates,
    _edits,
    _edits,
    st.builds(Erase, _whom),
    st.builds(Merge, _whom, _whom),
    st.builds(Split, _whom, st.integers(1, 31)),
    st.builds(Mark, st.sampled_from([*map(email, EMAILS), *map(external, EXTERNALS)])),
    _changes,
    _moves,
    _waits,
)
