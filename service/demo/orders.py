"""Orders that go through their story, one event at a time, written as different senders write."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal

from service.demo.events import STORE_CURRENCY, DemoEntry, Order, document, entry, named
from service.demo.people import Person
from service.demo.stories import Step, Story

CENT = Decimal("0.01")
NO_VERSION_EVERY = 20
UNTIDY_EMAIL_EVERY = 40
NUMBER_EVERY = 10
FLOAT_TAIL_EVERY = 50
ABROAD_EVERY = 250
ABROAD, RATE = "EUR", "1.09"
"""Some customers pay in another currency. Every second of these orders has an exchange rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedOrder:
    """An order and its story. ``number`` decides how its sender writes values."""

    id: str
    number: int
    who: Person
    total: Decimal
    created: datetime
    story: Story

    def event(self, nth: int, event_id: str, at: datetime) -> DemoEntry:
        """Return the ``nth`` event of the story, counted from 1, as it happened at ``at``."""
        step = self.story.steps[nth - 1]
        state = Order(
            id=self.id,
            version=nth if self.number % NO_VERSION_EVERY else None,
            customer=self._customer(step),
            status=step.status,
            payment=step.payment,
            total=self._total(),
            refunded=(self.total * step.refunded_share).quantize(CENT, ROUND_HALF_UP),
            currency=ABROAD if self._abroad() else STORE_CURRENCY,
            rate=RATE if self._abroad() and self.number // ABROAD_EVERY % 2 else None,
            address=self.who.address,
            created=self.created,
            updated=at,
        )
        return entry(document(event_id, "created" if nth == 1 else "updated", at, state))

    def _abroad(self) -> bool:
        return self.number % ABROAD_EVERY == ABROAD_EVERY // 2

    def _customer(self, step: Step) -> Mapping[str, object] | None:
        if step.customer == "nobody":
            # Guest checkouts name nobody in one of these two ways.
            empty = {"id": None, "name": "", "email": "", "phone": ""}
            return None if self.number % 2 else empty
        customer = named(self.who)
        if step.customer == "mistyped":
            customer["email"] = self.who.email[1:]
        elif self.number % UNTIDY_EMAIL_EVERY == 1:
            customer["email"] = f" {self.who.email.upper()} "
        return customer

    def _total(self) -> str | float:
        """Return the total as a string or a number; a few numbers have the long tail of a float."""
        if self.number % FLOAT_TAIL_EVERY == 1 and self.total:
            return math.nextafter(float(self.total), math.inf)
        return str(self.total) if self.number % NUMBER_EVERY else float(self.total)
