"""Decide who is who in a batch: which identifiers mean one customer, and which are new.

Customers are the connected components of what events put together. An event puts an external id and
an e-mail together. It names its customer by the first of its identifiers that names somebody.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from service.core.identifiers import IdentifierKind
from service.core.order_event import OrderEvent

MOST_IDENTIFIERS = 25
"""Nobody with more identifiers than this is enlarged automatically. They may be a marketplace, or
a company whose people share an account."""

ERASED = 0
Owner = int | None
"""The number of a customer, `ERASED`, or None for nobody."""

_EMAIL = f"{IdentifierKind.EMAIL}:"
_CUSTOMER = f"{IdentifierKind.CUSTOMER}:"


class Naming(NamedTuple):
    """Whom an event names."""

    owner: Owner
    identifiers: tuple[str, ...]
    """The identifiers that are stored with the order, without those of erased people. The first one
    that names somebody decides the order's customer."""
    email_owner: int | None
    """The customer who has the event's e-mail. If this is not the owner, the two are due to be
    merged."""


NOBODY = Naming(None, (), None)


class NewIdentifier(NamedTuple):
    """An identifier that nobody has yet."""

    identifier: str
    new_customer: int
    """A number for each new customer of the batch."""
    customer: int | None
    """The customer who has it from now on; None: a new one."""


class Known(NamedTuple):
    """What the database knows of the identifiers of a batch."""

    owners: Mapping[str, int | None]
    """Whom each known identifier means. None: it was marked as no person."""
    erased: Mapping[str, datetime]
    """When an identifier was erased. Orders placed until then name nobody by it."""

    def live(self, event: OrderEvent) -> tuple[str, ...]:
        """Return the identifiers of an event, without those of erased people."""
        if event.customer is None:
            return ()
        identifiers = event.customer.identifiers
        if not self.erased:
            return identifiers
        return tuple(
            each
            for each in identifiers
            if each not in self.erased or event.date_created > self.erased[each]
        )

    def erased_in(self, events: Sequence[OrderEvent]) -> dict[int, list[str]]:
        """Return the places of events that have identifiers of erased people, and which ones."""
        found = dict[int, list[str]]()
        for place, event in enumerate(events):
            if event.customer is not None:
                live = self.live(event)
                if erased := [each for each in event.customer.identifiers if each not in live]:
                    found[place] = erased
        return found

    def named(self, identifiers: tuple[str, ...]) -> tuple[str, ...]:
        """Return those that name somebody: all that must have an owner after the batch.

        An e-mail beside an id of ours means nothing more, because the id says who it is.
        """
        if not identifiers:
            return ()
        first = identifiers[0]
        if first.startswith(_CUSTOMER):
            if self.owners.get(first) is not None:
                return (first,)
            identifiers = identifiers[1:]
        elif len(identifiers) == 1:  # nearly always
            return identifiers if self.owners.get(first, 0) is not None else ()
        return tuple(each for each in identifiers if self.owners.get(each, 0) is not None)


def links_to_new(events: Iterable[OrderEvent], known: Known) -> set[int]:
    """Return the customers who would get another identifier by a batch."""
    enlarged = set[int]()
    for event in events:
        if event.customer is None or len(event.customer.identifiers) == 1:  # nearly always
            continue
        named = known.named(known.live(event))
        if len(named) > 1:
            owners = [known.owners.get(each) for each in named]
            if None in owners:
                enlarged.update(owner for owner in owners if owner is not None)
    return enlarged


def new_identifiers(
    events: Iterable[OrderEvent], known: Known, sizes: Mapping[int, int]
) -> list[NewIdentifier]:
    """Return the identifiers that nobody has yet, sorted, and who gets each.

    ``sizes`` has the number of identifiers of the customers of `links_to_new`.
    """
    groups = _Groups(known, sizes)
    unknown = set[str]()
    for event in events:
        named = known.named(known.live(event))
        unknown.update(each for each in named if each not in known.owners)
        if len(named) > 1:
            groups.join(*named)
    numbers: dict[str, int] = {}
    found = []
    for identifier in sorted(unknown):
        root = groups.root(identifier)
        number = numbers.setdefault(root, len(numbers))
        found.append(NewIdentifier(identifier, number, groups.customers.get(root)))
    return found


def common_identifiers(events: Iterable[OrderEvent]) -> dict[str, str | None]:
    """Map each identifier that events put beside others to one that stands for all of them.

    If nobody has any of these, `new_identifiers` gives all of them to one new customer. An
    identifier has None if that is not certain: a customer's number is among them, or they are too
    many. Identifiers that always come alone are left out, except customers' numbers.
    """
    groups = _Groups(Known({}, {}), {})
    several = list[tuple[str, ...]]()
    for event in events:
        if event.customer is not None:
            identifiers = event.customer.identifiers
            if len(identifiers) > 1:
                several.append(identifiers)
                groups.join(*identifiers)
            elif identifiers[0].startswith(_CUSTOMER):
                several.append(identifiers)
    undecided = {
        groups.root(each)
        for identifiers in several
        if identifiers[0].startswith(_CUSTOMER) or len(set(map(groups.root, identifiers))) > 1
        for each in identifiers
    }
    return {
        each: None if (root := groups.root(each)) in undecided else root
        for identifiers in several
        for each in identifiers
    }


def earliest_orders(
    events: Iterable[OrderEvent], known: Known, owners: Mapping[str, int]
) -> dict[int, datetime]:
    """Return the date of the earliest order that names each customer, by the customer's number.

    ``owners`` has whom identifiers mean. Only these customers are looked for.
    """
    earliest: dict[int, datetime] = {}
    for event in events:
        for identifier in known.named(known.live(event)):
            owner = owners.get(identifier)
            if owner is not None:
                at = earliest.get(owner)
                if at is None or event.date_created < at:
                    earliest[owner] = event.date_created
    return earliest


class _Groups:
    """Identifiers of a batch that mean one customer (union-find)."""

    def __init__(self, known: Known, sizes: Mapping[int, int]) -> None:
        self._known = known
        self._sizes = dict[str, int]()
        self._stored_sizes = sizes
        self._parents = dict[str, str]()
        self.customers = dict[str, int]()
        """The customer whom the identifiers of a group mean already, by the group's root."""

    def root(self, identifier: str) -> str:
        while (parent := self._parents.get(identifier, identifier)) != identifier:
            identifier = parent
        return identifier

    def join(self, one: str, other: str) -> None:
        low, high = sorted((self._start(one), self._start(other)))
        if low == high or (low in self.customers and high in self.customers):
            return  # two customers are merged after the batch
        size = self._size(low), self._size(high)
        if max(size) > MOST_IDENTIFIERS:
            return  # a person decides about the two
        self._parents[high] = low
        self._sizes[low] = sum(size)
        if high in self.customers:
            self.customers[low] = self.customers[high]

    def _start(self, identifier: str) -> str:
        """Return the root of an identifier. All identifiers of a customer have one root."""
        owner = self._known.owners.get(identifier)
        if owner is None:
            return self.root(identifier)
        root = self.root(f"{_CUSTOMER}{owner}")
        self.customers.setdefault(root, owner)
        self._sizes.setdefault(root, self._stored_sizes.get(owner, 0))
        return root

    def _size(self, root: str) -> int:
        return self._sizes.get(root, 1)


def naming_of(event: OrderEvent, known: Known) -> Naming:
    """Return whom an event names, once every identifier has its owner."""
    if event.customer is None:
        return NOBODY
    live = known.live(event)
    named = known.named(live)
    if not named:
        if len(live) < len(event.customer.identifiers):
            return Naming(ERASED, (), None)
        return Naming(None, _without_our_ids(live), None)
    owner = known.owners[named[0]]
    if named[0].startswith(_CUSTOMER):
        return Naming(owner, named, None)
    last = named[-1]
    return Naming(
        owner, _without_our_ids(live), known.owners[last] if last.startswith(_EMAIL) else None
    )


def _without_our_ids(identifiers: tuple[str, ...]) -> tuple[str, ...]:
    """Return the identifiers without an id of ours that nobody has. It names nobody, ever."""
    return identifiers[1:] if identifiers[0].startswith(_CUSTOMER) else identifiers


def to_merge(namings: Iterable[Naming]) -> set[tuple[int, int]]:
    """Return the pairs of customers whom events say to be one person, the lower number first."""
    pairs = set[tuple[int, int]]()
    for naming in namings:
        if naming.owner and naming.email_owner and naming.owner != naming.email_owner:
            low, high = sorted((naming.owner, naming.email_owner))
            pairs.add((low, high))
    return pairs
