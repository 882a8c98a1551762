"""Orders that go through their story, one event at a time, in the several hands of real senders."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal

from service.demo.events import DemoEntry, Order, document, entry, named
from service.demo.people import Person
from service.demo.stories import Step, Story

CENT = Decimal("0.01")
NO_VERSION_EVERY = 20
UNTIDY_EMAIL_EVERY = 40
NUMBER_EVERY = 10
FLOAT_TAIL_EVERY = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedOrder:
    """An order and its fate. ``number`` decides how its sender writes things."""

    id: str
    number: int
    who: Person
    total: Decimal
    created: datetime
    story: Story

    def event(self, nth: int, event_id: str, at: datetime) -> DemoEntry:
        """Return the story's ``nth`` event, counted from 1, as it happened at ``at``."""
        step = self.story.steps[nth - 1]
        state = Order(
            id=self.id,
            version=nth if self.number % NO_VERSION_EVERY else None,
            customer=self._customer(step),
            status=step.status,
            payment=step.payment,
            total=self._total(),
            refunded=(self.total * step.refunded_share).quantize(CENT, ROUND_HALF_UP),
            address=self.who.address,
            created=self.created,
            updated=at,
        )
        return entry(document(event_id, "created" if nth == 1 else "updated", at, state))

    def _customer(self, step: Step) -> Mapping[str, object] | None:
        if step.customer == "nobody":
            # Both ways of naming nobody that guest checkouts know.
            empty = {"id": None, "name": "", "email": "", "phone": ""}
            return None if self.number % 2 else empty
        who = named(self.who)
        if step.customer == "mistyped":
            who["email"] = self.who.email[1:]
        elif self.number % UNTIDY_EMAIL_EVERY == 1:
            who["email"] = f" {self.who.email.upper()} "
        return who

    def _total(self) -> str | float:
        """Return the total as a string, or as a number, a few of them with a float's long tail."""
        if self.number % FLOAT_TAIL_EVERY == 1 and self.total:
            return math.nextafter(float(self.total), math.inf)
        return str(self.total) if self.number % NUMBER_EVERY else float(self.total)
