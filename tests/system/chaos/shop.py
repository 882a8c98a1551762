"""The shop whose events a run publishes. The seed determines all of them, family by family.

A family is a few customers whose orders may move among them. The shop has given each an id, which
comes with some events, and one of them uses two e-mails: so who is one person shows only when some
of the events are there. The result of a family's events depends on no other family, so the model
can work it out alone.
"""

import json
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from tests.model import Document

HOT = 1_000_000_000
"""Families from this number on are hot customers, one each."""
PROBES = 2_000_000_000
"""Families from this number on are new customers with a single order each."""

_STATUSES = ("pending", "processing", "shipped", "completed", "completed", "cancelled", "on_hold")
_PAYMENTS = ("paid", "paid", "paid", "pending", "failed", "refunded", None)
_AGES = (0.0, 0.0, 1.0, 30.0, 59.0, 61.0, 89.0, 91.0, 400.0)


class Ref(NamedTuple):
    """An event, by its family and its place in the family."""

    family: int
    place: int


@dataclass(frozen=True)
class Shop:
    """All events that can be published; the same for the same seed and start."""

    seed: int
    start: datetime
    seconds: float
    """The time from the start during which some customers become due by time."""

    def document(self, ref: Ref) -> Document:
        """Return an event."""
        return self.family(ref.family)[ref.place]

    @lru_cache(maxsize=256)  # noqa: B019  there is one shop in a run
    def family(self, number: int) -> list[Document]:
        """Return a family's events, in the order in which they happened."""
        rng = random.Random(f"{self.seed} {number}")
        if number >= PROBES:
            probe = {"email": f"probe{number}@x.org"}
            return [self._document(rng, f"P{number}", 1, probe, self.start)]
        people = [f"f{number}-{n}" for n in range(1 if number >= HOT else 3)]
        documents: list[Document] = []
        ages = self._soon(rng) if rng.random() < 0.25 else _AGES
        for order in range(4):
            created = self.start - timedelta(days=rng.choice(ages), hours=1)
            for version in range(1, rng.randint(2, 4)):
                document = self._document(
                    rng, f"F{number}-{order}", version, _person(rng, people), created
                )
                documents.append(document)
        # Two events with the same version and time, and one without a version.
        rival = json.loads(json.dumps(documents[-1]))
        rival["id"] += "-rival"
        rival["data"]["totalAmount"] = "77.77"
        blunt = json.loads(json.dumps(documents[0]))
        blunt["id"] += "-blunt"
        del blunt["data"]["version"]
        return [*documents, rival, blunt]

    def _soon(self, rng: random.Random) -> tuple[float, ...]:
        """Return ages in days of orders whose customers become due during the run."""
        ahead = timedelta(hours=1, seconds=rng.uniform(0, self.seconds)) / timedelta(days=1)
        return (60 - ahead, 90 - ahead, 400)

    def _document(
        self,
        rng: random.Random,
        order: str,
        version: int,
        known_by: dict[str, str],
        created: datetime,
    ) -> Document:
        updated = created + timedelta(minutes=version)
        person: dict[str, Any] = {
            "id": None,
            "name": rng.choice(("Ann", " Bob", "Zoë", "", None)),
            "phone": rng.choice(("555-1", "555-2", "", None)),
            **known_by,
        }
        total = rng.choice(("0", "99.995", "250.00", 108.24917500000001, "500.00"))
        document: Document = {
            "specversion": "1.0",
            "id": f"{order}:{version}",
            "source": "/order-management",
            "type": "order-created" if version == 1 else "order-updated",
            "subject": order,
            "time": updated.isoformat(),
            "data": {
                "id": order,
                "version": version,
                "customer": person if known_by else None,
                "status": rng.choice(_STATUSES),
                "paymentStatus": rng.choice(_PAYMENTS),
                "totalAmount": total,
                "refundedAmount": rng.choice(("0", None, "49.99")) if total == "250.00" else "0",
                "currency": "USD",
                "shippingAddress": {"street": f"{rng.randrange(9)} Main St", "city": "Austin"},
                "dateCreated": created.isoformat(),
                "dateUpdated": updated.isoformat(),
            },
        }
        return document


def _person(rng: random.Random, people: Sequence[str]) -> dict[str, str]:
    """Return an e-mail of somebody as people write it, or their id, or both; now and then none."""
    person = rng.choice(people)
    email = f"{person}@x.org" if person != people[0] else f"{person}{rng.choice('ab')}@x.org"
    written = rng.choice((email, email, email, email.upper(), f" {email} ", None))
    id_ = rng.choice((person, None, None))
    return {name: value for name, value in (("id", id_), ("email", written)) if value}


def bad(number: int) -> dict[bytes, bytes]:
    """Return an entry that breaks the contract and is unlike any other."""
    order = {"id": f"BAD-{number}", "status": "paid?", "totalAmount": "1", "dateCreated": "now"}
    event = {"specversion": "1.0", "id": f"bad-{number}", "type": "order-created", "data": order}
    mark = str(number).encode()
    return (
        {b"data": b"not json " + mark},
        {b"payload": mark},
        {b"data": b"\xff\xfe" + mark},
        {b"data": json.dumps(event).encode()},
        {b"data": json.dumps({**event, "data": {**order, "totalAmount": "NaN"}}).encode()},
        {b"data": b"[" + mark + b"]"},
    )[number % 6]


@dataclass
class Ledger:
    """A record of all published events, independent of the service."""

    events: dict[int, set[int]] = field(default_factory=dict)
    bad: set[int] = field(default_factory=set)
    oversize: set[bytes] = field(default_factory=set)
    """The beginning of each entry that is too large to be read."""
    recent: dict[Ref, bool] = field(default_factory=dict)
    """Events that are not known to be applied; True once Redis has confirmed them."""
    sent: deque[Ref] = field(default_factory=lambda: deque(maxlen=500))
    """The latest events, some of which are sent again."""
    entries: int = 0
    repeated: int = 0
    late: int = 0

    def note(self, ref: Ref) -> None:
        """Record an event before it is sent: after an error it may have arrived anyway."""
        self.events.setdefault(ref.family, set()).add(ref.place)
        self.recent[ref] = False
        self.sent.append(ref)

    def confirmed(self) -> list[Ref]:
        """Return the recent events that Redis has confirmed; it may have lost them since."""
        return [ref for ref, there in self.recent.items() if there]

    @property
    def distinct(self) -> int:
        """The number of different events."""
        return sum(len(places) for places in self.events.values())
