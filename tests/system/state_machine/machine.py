"""Apply operations to the service and to the model, and compare both."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
from sqlalchemy import Date, DateTime, Row, TextClause, text

from service.core.envelope import Entry
from service.core.reconstruction import ReconstructionCause
from service.db.customers.identity import not_a_person
from service.db.customers.identity.merge import merge, merge_next
from service.db.customers.identity.split import split
from service.db.schema import metadata
from service.db.statistics.generations import request_reconstruction
from tests.conftest import Service
from tests.events import cloud_event
from tests.integration.db.segments.settings.conftest import apply_all, step
from tests.integration.db.segments.sweeping import sweep_all
from tests.store_zone import move_to
from tests.system.state_machine.model import Customer, Event, Kept, Seen, World, email, rules_of
from tests.system.state_machine.operations import (
    Change,
    Create,
    Edit,
    Erase,
    Mark,
    Merge,
    Move,
    Operation,
    Publish,
    Split,
    Story,
    Wait,
)

_CUSTOMERS = "/api/v1/customers"
_MOMENTS = {
    table.name: [column.name for column in table.columns if isinstance(column.type, DateTime)]
    for table in metadata.sorted_tables
}
_DAYS = [
    (table.name, column.name)
    for table in metadata.sorted_tables
    for column in table.columns
    if isinstance(column.type, Date)
]
_FAR = 1_000_000


_ERASED_EARLIER = text("""
UPDATE audit SET details = jsonb_set(details, '{erased}', (
  SELECT jsonb_object_agg(hash, CAST(CAST(at AS timestamptz) - CAST(:span AS interval) AS text))
  FROM jsonb_each_text(details -> 'erased') AS erased (hash, at)))
WHERE jsonb_typeof(details -> 'erased') = 'object' AND details -> 'erased' <> '{}'
""")
"""The audit of an erasure names its time as well."""
_MERGED_EARLIER = text("""
UPDATE audit SET details = details || (
  SELECT jsonb_object_agg(part, profile) FROM (
    SELECT part, jsonb_object_agg(key, CASE WHEN key LIKE '%\\_at'
      THEN to_jsonb(CAST(value #>> '{}' AS timestamptz) - CAST(:span AS interval)) ELSE value END
    ) AS profile
    FROM unnest('{gone,stayed}'::text[]) AS p (part)
    CROSS JOIN LATERAL jsonb_each(details -> part) AS kept (key, value) GROUP BY part) profiles)
WHERE action = 'customer.merged' AND (details -> 'gone' <> '{}' OR details -> 'stayed' <> '{}')
""")
"""The audit of a merge keeps the profiles of both, with the times that they came with."""
_KEPT = text("""
SELECT details ->> 'other' AS ref, details ? 'gone' AS gone, details ? 'stayed' AS stayed
FROM audit WHERE action = 'customer.merged' AND details ? 'other' ORDER BY id
""")
"""What is left of the profiles that merges kept. Which of them an erasure removes is for the tests
of erasures."""
_COUNTED = text("SELECT id, counts FROM orders")
_IDENTIFIERS = text("""
SELECT regexp_replace(identifier, '^customer:', 'CUST-') AS identifier,
  'CUST-' || customer_id AS ref FROM identifiers
""")


class Machine:
    """The service, and the model beside it.

    When days pass, the model's clock moves on. The service's clock cannot, so all times that it
    has stored are moved back instead: the model's time is the service's plus `_passed`.
    """

    def __init__(self, service: Service, http: httpx.AsyncClient) -> None:
        self.world = World()
        self._service = service
        self._http = http
        self._passed = timedelta()
        self._events: list[Event] = []
        self._entries = 0

    def _now(self) -> datetime:
        return datetime.now(UTC) + self._passed

    def _read(self, written: str | None) -> datetime | None:
        return None if written is None else datetime.fromisoformat(written) + self._passed

    async def do(self, operation: Operation) -> None:
        """Apply one operation, and check that both have the same customers."""
        match operation:
            case Publish():
                await self._publish(operation)
            case Create(body):
                await self._create(body)
            case Mark(identifier):
                await self._mark(identifier)
            case Change(settings, meanwhile):
                await self._change(settings, meanwhile)
            case Move(zone):
                await self._move(zone)
            case Wait(days):
                await self._wait(days)
            case Edit() | Erase() | Merge() | Split():
                if customer := self._customer(operation.whom):
                    await self._do_to(customer, operation)
        await self._merge_due()
        await self.compare()

    async def _do_to(self, customer: Customer, operation: Edit | Erase | Merge | Split) -> None:
        match operation:
            case Edit(_, body):
                await self._edit(customer, body)
            case Erase():
                await self._erase(customer)
            case Merge(_, other):
                await self._merge(customer, self._customer(other) or customer)
            case Split(_, which):
                await self._split(customer, which)

    def _customer(self, whom: int) -> Customer | None:
        known = sorted(self.world.customers, key=lambda customer: customer.key)
        return known[whom % len(known)] if known else None

    async def _publish(self, publish: Publish) -> None:
        now = self._now()
        new = []
        for story in publish.stories:
            new.append(self._event(story, now))
            self._events.append(new[-1])
        batch = [*new, *(self._events[n % len(self._events)] for n in publish.again)]
        await self._service.ingest(*(self._entry(event) for event in batch))
        self.world.apply(batch, now)

    def _event(self, story: Story, now: datetime) -> Event:
        customer = None if story.by_ref is None else self._customer(story.by_ref)
        total, refunded = story.amounts
        currency, rate = story.currency or (None, None)
        created = now - timedelta(days=story.created)
        # If an event of an order names nobody, all events of that order have the same date.
        earlier = [event for event in self._events if event.order == story.order]
        names = [story.email or story.external, *(e.email or e.ref for e in earlier)]
        if earlier and None in names:
            created = max(earlier, key=lambda event: event.key).created
        self._entries += 1
        return Event(
            id=f"e-{self._entries}",
            order=story.order,
            version=story.version,
            at=now - timedelta(days=story.updated),
            created=created,
            status=story.status,
            payment=story.payment,
            total=Decimal(total),
            refunded=Decimal(refunded),
            currency=currency,
            rate=None if rate is None else Decimal(rate),
            ref=customer.ref if customer else story.external,
            email=story.email,
            name=story.name,
            phone=story.phone,
        )

    def _entry(self, event: Event) -> Entry:
        person = {"id": event.ref, "email": event.email, "name": event.name, "phone": event.phone}
        document = cloud_event(
            event.order,
            event_id=event.id,
            version=event.version,
            created=event.created - self._passed,
            updated=event.at - self._passed,
            status=event.status,
            payment_status=event.payment,
            total=str(event.total),
            refunded=str(event.refunded),
            currency=event.currency or "USD",
            exchangeRate=None if event.rate is None else str(event.rate),
            customer=person,
        )
        self._entries += 1
        return Entry(
            f"{1_700_000_000_000}-{self._entries}", {b"data": json.dumps(document).encode()}
        )

    def _dated(self, body: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the body as it is sent, and as the model takes it."""
        days = body.get("segmentPinnedUntil")
        if days is None:
            return body, body
        until = self._now() + timedelta(days=days)
        sent = (until - self._passed).isoformat()
        return body | {"segmentPinnedUntil": sent}, body | {"segmentPinnedUntil": until}

    async def _create(self, body: dict[str, Any]) -> None:
        sent, body = self._dated(body)
        before = self._now()
        answer = await self._http.post(_CUSTOMERS, json=sent)
        identifier = email(body["email"])
        if identifier in self.world.known:
            refused = 409 if self.world.known[identifier] else 422
            assert answer.status_code == refused, answer.text
            return
        assert answer.status_code == 201, answer.text
        created = self._read(answer.json()["dateCreated"])
        assert created
        assert before <= created <= self._now()
        self.world.create(answer.json()["id"], body, created)

    async def _edit(self, customer: Customer, body: dict[str, Any]) -> None:
        sent, body = self._dated(body)
        answer = await self._http.patch(f"{_CUSTOMERS}/{customer.ref}", json=sent)
        known = self.world.known
        identifier = email(body.get("email", ""))
        if identifier in known and known[identifier] is not customer:
            refused = 409 if known[identifier] else 422
            assert answer.status_code == refused, answer.text
            return
        assert answer.status_code == 200, answer.text
        self.world.edit(customer, body, self._now())

    async def _erase(self, customer: Customer) -> None:
        answer = await self._http.delete(f"{_CUSTOMERS}/{customer.ref}")
        assert answer.status_code == 200, answer.text
        self.world.erase(customer, self._now())
        left = {row.ref: row for row in await self._rows(_KEPT)}
        self.world.kept = {
            ref: Kept(
                kept.gone if left[ref].gone else None, kept.stayed if left[ref].stayed else None
            )
            for ref, kept in self.world.kept.items()
            if ref in left
        }

    async def _merge(self, one: Customer, other: Customer) -> None:
        low, high = sorted((one, other), key=lambda customer: customer.number)
        if low is not high:
            await self._service.in_transaction(merge, low.number, high.number, "test")
            self.world.merge(low, high, self._now())

    async def _merge_due(self) -> None:
        """Do the chore of merging whom events put together."""
        await self._learn_refs()
        while await self._service.in_transaction(merge_next) is not None:
            pass
        self.world.merge_due(self._now())

    async def _learn_refs(self) -> None:
        """Learn the ids of new customers by their identifiers; all these mean the same."""
        refs = {row.identifier: row.ref for row in await self._rows(_IDENTIFIERS)}
        for customer in self.world.customers:
            if customer.ref is None:
                found = {refs.get(each) for each in self.world.identifiers(customer)}
                assert len(found) == 1, found
                (customer.ref,) = found

    async def _split(self, customer: Customer, which: int) -> None:
        theirs = self.world.identifiers(customer)
        taken = [each for n, each in enumerate(theirs) if which >> n & 1]
        if not taken or len(taken) == len(theirs):
            return
        identifiers = [each.replace("CUST-", "customer:") for each in taken]
        new = await self._service.in_transaction(split, customer.number, identifiers, "test")
        answer = await self._http.get(f"{_CUSTOMERS}/CUST-{new}")
        created = self._read(answer.json()["dateCreated"])
        assert created
        assert created <= self._now()
        self.world.split(customer, taken, f"CUST-{new}", created, self._now())

    async def _mark(self, identifier: str) -> None:
        if identifier in self.world.known and self.world.known[identifier] is None:
            owner = await self._service.in_transaction(not_a_person.unmark, identifier, "test")
            ref = f"CUST-{owner}" if owner else None
            self.world.unmark(identifier, ref, self._now())
        else:
            await self._service.in_transaction(not_a_person.mark, identifier, "test")
            self.world.mark(identifier, self._now())

    async def _change(
        self, settings: dict[str, Any], meanwhile: Sequence[Publish | Erase | Merge]
    ) -> None:
        answer = await self._http.put("/api/v1/settings", json=settings)
        assert answer.status_code == 200, answer.text
        self.world.settings |= settings
        for operation in meanwhile:
            await step(self._service)
            assert not [fault for fault in await self._service.findings() if fault.number == 1]
            if isinstance(operation, Publish):
                await self._publish(operation)
            elif customer := self._customer(operation.whom):
                await self._do_to(customer, operation)
            await self._merge_due()
        await apply_all(self._service)
        self.world.settle(self._now())

    async def _move(self, zone: str) -> None:
        await self._service.in_transaction(request_reconstruction, ReconstructionCause.ASKED)
        await move_to(self._service, zone)

    async def _wait(self, days: int) -> None:
        async with self._service.engine.begin() as connection:
            for table, columns in _MOMENTS.items():
                if columns:
                    earlier = ", ".join(f"{it} = {it} - CAST(:span AS interval)" for it in columns)
                    statement = text(f"UPDATE {table} SET {earlier}")
                    await connection.execute(statement, {"span": timedelta(days=days)})
            for statement in (_ERASED_EARLIER, _MERGED_EARLIER):
                await connection.execute(statement, {"span": timedelta(days=days)})
            for (
                table,
                day,
            ) in _DAYS:  # days are unique: none may become one that another row still has
                for span in (_FAR, days - _FAR):
                    statement = text(f"UPDATE {table} SET {day} = {day} - CAST(:span AS integer)")
                    await connection.execute(statement, {"span": span})
        self._passed += timedelta(days=days)
        await sweep_all(self._service)
        self.world.settle(self._now())

    async def compare(self) -> None:
        """Compare customers, identifiers and unattributed orders of the service with the model."""
        answer = await self._http.get(_CUSTOMERS, params={"limit": 500})
        assert answer.status_code == 200, answer.text
        items = answer.json()["items"]
        shown = {(item["email"] or item["id"]).lower(): self._seen(item) for item in items}
        assert shown == {key.lower(): seen for key, seen in self.world.seen().items()}
        known = {customer.key.lower(): customer for customer in self.world.customers}
        for item in items:
            customer = known[(item["email"] or item["id"]).lower()]
            assert customer.ref in {None, item["id"]}
            customer.ref = item["id"]
        answer = await self._http.get("/api/v1/orders/unattributed", params={"limit": 500})
        assert {item["id"] for item in answer.json()["items"]} == {
            number
            for number, order in self.world.orders.items()
            if self.world.whose(order) is None and not order.erased
        }
        rules = rules_of(self.world.settings)
        assert {row.id: row.counts for row in await self._rows(_COUNTED)} == {
            number: order.state.as_order.counts(rules)
            for number, order in self.world.orders.items()
        }
        means = {row.identifier: row.ref for row in await self._rows(_IDENTIFIERS)}
        assert means == {
            identifier: customer and customer.ref
            for identifier, customer in [*self.world.known.items(), *self.world.merged.items()]
        }

    async def _rows(self, query: TextClause) -> Sequence[Row[Any]]:
        async with self._service.engine.connect() as connection:
            return (await connection.execute(query)).all()

    def _seen(self, item: dict[str, Any]) -> Seen:
        created = self._read(item["dateCreated"])
        assert created
        return Seen(
            item["name"],
            item["phone"],
            item["notes"],
            item["fields"],
            created,
            tuple(sorted(item["orderIds"])),
            item["totalOrders"],
            Decimal(str(item["totalSpent"])),
            self._read(item["firstOrderDate"]),
            self._read(item["lastOrderDate"]),
            item["segment"],
            item["segmentSource"],
            item["segmentPinned"],
            self._read(item["segmentPinnedUntil"]),
        )


async def run(
    service: Service, http: httpx.AsyncClient, operations: Sequence[Operation]
) -> Machine:
    """Apply all operations to an empty service, and check its invariants at the end."""
    await service.empty()
    for label in ("Size", "Age"):
        await http.post("/api/v1/fields", json={"label": label, "kind": "number"})
    machine = Machine(service, http)
    for operation in operations:
        await machine.do(operation)
    found = await service.findings()
    assert not found, found
    return machine
