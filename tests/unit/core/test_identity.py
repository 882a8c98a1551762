"""Who is who in a batch: the identifiers that events put together mean one customer."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from service.core.identity import (
    ERASED,
    MOST_IDENTIFIERS,
    NOBODY,
    Known,
    Naming,
    common_identifiers,
    links_to_new,
    naming_of,
    new_identifiers,
    to_merge,
)
from service.core.order_event import EventCustomer, EventKey, OrderEvent

START = datetime(2026, 11, 1, tzinfo=UTC)
SHOP = "external:/shop#"
NOTHING = Known({}, {})


def event(*identifiers: str, created: datetime = START) -> OrderEvent:
    customer = EventCustomer(identifiers, None, None, None, None) if identifiers else None
    key = EventKey(1, created, created, "e")
    return OrderEvent("O-1", key, created, "completed", "paid", 1, 0, created, customer)


def groups(events: Sequence[OrderEvent], known: Known = NOTHING) -> set[frozenset[str]]:
    """Return the identifiers that become one new customer each."""
    found: dict[int, set[str]] = {}
    for each in new_identifiers(events, known, {}):
        assert each.customer is None
        found.setdefault(each.new_customer, set()).add(each.identifier)
    return {frozenset(group) for group in found.values()}


def components(events: Sequence[OrderEvent]) -> set[frozenset[str]]:
    """Return the connected components, the slow and simple way."""
    parts: list[set[str]] = []
    for each in events:
        named = set(each.customer.identifiers) if each.customer else set()
        touching = [part for part in parts if part & named]
        parts = [part for part in parts if not part & named]
        parts.append(named.union(*touching))
    return {frozenset(part) for part in parts if part}


_emails = st.sampled_from([f"email:{letter}@x.org" for letter in "abcd"])
_externals = st.sampled_from([f"{SHOP}{number}" for number in range(4)])
named_events = st.one_of(
    _emails.map(event),
    _externals.map(event),
    st.tuples(_externals, _emails).map(lambda pair: event(*pair)),
    st.just(event()),
)


@given(st.lists(named_events, max_size=12), st.randoms(use_true_random=False))
def test_new_customers_are_the_connected_components(events: list[OrderEvent], rng: object) -> None:
    expected = components(events)
    assert groups(events) == expected
    rng.shuffle(events)  # type: ignore[attr-defined]
    assert groups(events) == expected


_ours = st.just("customer:1001")
_any_events = st.one_of(
    named_events, _ours.map(event), st.tuples(_ours, _emails).map(lambda pair: event(*pair))
)
_some_known = st.dictionaries(
    st.one_of(_emails, _externals, _ours), st.one_of(st.none(), st.sampled_from([1001, 1002]))
)


@given(st.lists(_any_events, max_size=12), _some_known)
def test_those_with_one_in_common_go_to_one_new_customer_if_nobody_has_them(
    events: list[OrderEvent], owners: dict[str, int | None]
) -> None:
    named = {each for told in events if told.customer for each in told.customer.identifiers}
    common = common_identifiers(events)
    parts: dict[str, set[str]] = {}
    for each in named:
        if (found := common.get(each, each)) is not None:
            parts.setdefault(found, set()).add(each)
    new = new_identifiers(events, Known(owners, {}), {1001: 1, 1002: 1})
    for part in parts.values():
        if not part & owners.keys():
            (number,) = {each.new_customer for each in new if each.identifier in part}
            theirs = [each for each in new if each.new_customer == number]
            assert {each.identifier for each in theirs} == part
            assert {each.customer for each in theirs} == {None}


@given(st.lists(named_events, max_size=12))
def test_what_is_known_is_not_created_again(events: list[OrderEvent]) -> None:
    known = Known({"email:a@x.org": 1001, f"{SHOP}1": 1002}, {})
    for each in new_identifiers(events, known, {1001: 1, 1002: 1}):
        assert each.identifier not in known.owners
    enlarged = links_to_new(events, known)
    given_to = {each.customer for each in new_identifiers(events, known, {})} - {None}
    assert given_to <= enlarged


def test_an_unknown_identifier_goes_to_the_customer_of_the_other_one() -> None:
    known = Known({"email:a@x.org": 1001}, {})
    (new,) = new_identifiers([event(f"{SHOP}7", "email:a@x.org")], known, {1001: 1})
    assert (new.identifier, new.customer) == (f"{SHOP}7", 1001)


def test_two_known_customers_are_due_to_be_merged() -> None:
    known = Known({"email:a@x.org": 1002, f"{SHOP}7": 1001}, {})
    naming = naming_of(event(f"{SHOP}7", "email:a@x.org"), known)
    assert naming == Naming(1001, (f"{SHOP}7", "email:a@x.org"), 1002)
    assert to_merge([naming]) == {(1001, 1002)}


def test_nobody_with_many_identifiers_is_enlarged() -> None:
    events = [event(f"{SHOP}{number}", "email:m@x.org") for number in range(100)]
    sizes = sorted(map(len, groups(events)))
    assert sizes[-1] == MOST_IDENTIFIERS + 1
    assert sizes[:-1] == [1] * (101 - sizes[-1])
    assert set(common_identifiers(events).values()) == {None}
    known = Known({"email:m@x.org": 1001}, {})
    (new,) = new_identifiers(events[:1], known, {1001: MOST_IDENTIFIERS + 1})
    assert new.customer is None


def test_an_id_of_ours_says_alone_who_it_is() -> None:
    told = event("customer:1001", "email:a@x.org")
    known = Known({"customer:1001": 1001}, {})
    assert new_identifiers([told], known, {}) == []
    assert naming_of(told, known) == Naming(1001, ("customer:1001",), None)
    # Nobody has this id, so the e-mail names them.
    assert groups([told]) == {frozenset({"email:a@x.org"})}
    owned = Known({"email:a@x.org": 1002}, {})
    assert naming_of(told, owned) == Naming(1002, ("email:a@x.org",), 1002)


def test_a_marked_identifier_names_nobody_and_joins_nobody() -> None:
    till = f"{SHOP}1"
    known = Known({till: None}, {})
    told = [event(till, "email:a@x.org"), event(till, "email:b@x.org"), event(till)]
    assert groups(told, known) == {frozenset({"email:a@x.org"}), frozenset({"email:b@x.org"})}
    after = Known({till: None, "email:a@x.org": 1001}, {})
    assert naming_of(told[0], after) == Naming(1001, (till, "email:a@x.org"), 1001)
    # The mark may be taken away, so the order keeps what would name its customer.
    assert naming_of(told[2], after) == Naming(None, (till,), None)


def test_an_erased_identifier_names_nobody_in_orders_placed_before() -> None:
    erased = START + timedelta(hours=1)
    known = Known({f"{SHOP}7": 1001}, {"email:a@x.org": erased})
    before = event(f"{SHOP}7", "email:a@x.org")
    assert naming_of(before, known) == Naming(1001, (f"{SHOP}7",), None)
    assert naming_of(event("email:a@x.org"), known) == Naming(ERASED, (), None)
    later = event("email:a@x.org", created=erased + timedelta(seconds=1))
    assert groups([later], known) == {frozenset({"email:a@x.org"})}
    assert naming_of(event(), known) == NOBODY
