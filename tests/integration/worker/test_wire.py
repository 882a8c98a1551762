"""The worker reads what other programs write, and they read what it writes, without our code."""

import json
import re
import socket
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import BufferedRWPair
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from faststream.redis import RedisBroker, StreamSub
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from tests.conftest import Service
from tests.events import cloud_event, fields
from tests.integration.worker.scene import (
    all_applied,
    all_published,
    out_stream,
    publish_all,
    totals,
    working,
)
from tests.wait import until


class Order(BaseModel):
    """An order as another FastStream service would model it."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    id: str
    status: str
    total_amount: Decimal
    date_created: datetime
    customer: dict[str, str]


class OrderCreated(BaseModel):
    id: str
    type: str
    data: Order


class SegmentChange(BaseModel):
    """The data of our events, as analytics would model it."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid")

    customer_id: str
    previous_segment: str | None
    segment: str
    cause: str
    total_orders: int
    total_spent: Decimal
    last_order_date: datetime | None
    settings_version: int
    changed_at: datetime
    sequence: int


class SegmentChanged(BaseModel):
    model_config = ConfigDict(extra="forbid")

    specversion: str
    id: str
    source: str
    type: str
    time: datetime
    subject: str
    datacontenttype: str
    data: SegmentChange


class Raw:
    """A Redis client that knows nothing but the protocol."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._socket = socket.create_connection((address.hostname, address.port or 6379), 5)
        self._stream: BufferedRWPair = self._socket.makefile("rwb")
        if address.password:
            self.call(b"AUTH", unquote(address.password).encode())

    def close(self) -> None:
        self._stream.close()
        self._socket.close()

    def call(self, *words: bytes) -> Any:
        self._stream.write(b"*%d\r\n" % len(words))
        for word in words:
            self._stream.write(b"$%d\r\n%s\r\n" % (len(word), word))
        self._stream.flush()
        return self._answer()

    def _answer(self) -> Any:
        line = self._stream.readline().rstrip()
        kind, rest = line[:1], line[1:]
        assert kind != b"-", line
        if kind == b"$":
            return self._stream.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self._answer() for _ in range(int(rest))]
        return rest


@pytest.fixture
def order(now: datetime) -> Order:
    return Order(
        id="ORD-F",
        status="completed",
        total_amount=Decimal("12.50"),
        date_created=now,
        customer={"email": "f@x.org", "name": "Fay"},
    )


async def _total(service: Service, order_id: str) -> Decimal:
    (row,) = await service.rows("SELECT total FROM orders WHERE id = :id", id=order_id)
    total: Decimal = row["total"]
    return total


async def test_an_xadd_over_a_socket_is_read(service: Service) -> None:
    document = json.dumps(cloud_event("ORD-1", email="a@x.org", total="129.97")).encode()
    client = Raw(service.servers.redis_url)
    assert re.fullmatch(rb"\d+-\d+", client.call(b"XADD", b"orders", b"*", b"data", document))
    client.close()
    async with working(service):
        await all_applied(service, 1)
    assert await _total(service, "ORD-1") == Decimal("129.97")


async def test_an_entry_with_other_fields_is_read(service: Service) -> None:
    await service.publish({b"trace": b"\xff\x00", **fields("ORD-1", total=0.1), b"empty": b""})
    async with working(service):
        await all_applied(service, 1)
    assert (await totals(service)).applied == 1
    assert await _total(service, "ORD-1") == Decimal("0.10")


async def test_entries_of_a_faststream_publisher_are_read(service: Service, order: Order) -> None:
    model = OrderCreated(id="event-f", type="order-created", data=order)
    as_dict = cloud_event("ORD-D", email="d@x.org", total="108.24917500000001")
    async with working(service), RedisBroker(service.servers.redis_url) as broker:
        await broker.publish(model.model_dump(mode="json", by_alias=True), stream="orders")
        await broker.publish(as_dict, stream="orders")
        await broker.publish(json.dumps(cloud_event("ORD-S")), stream="orders")
        await service.publish({b"__data__": json.dumps(cloud_event("ORD-P")).encode()})
        await all_applied(service, 4)
    assert (await totals(service)).applied == 4
    assert await _total(service, "ORD-F") == Decimal("12.50")
    assert await _total(service, "ORD-D") == Decimal("108.25")


async def test_a_pydantic_model_published_by_faststream_is_read(
    service: Service, now: datetime
) -> None:
    class Data(BaseModel):
        id: str
        totalAmount: Decimal  # noqa: N815  the wire's name
        status: str
        dateCreated: datetime  # noqa: N815

    class Event(BaseModel):
        id: str
        type: str
        data: Data

    data = Data(id="ORD-M", totalAmount=Decimal("7.05"), status="pending", dateCreated=now)
    async with working(service), RedisBroker(service.servers.redis_url) as broker:
        event = Event(id="event-m", type="order-updated", data=data)
        await broker.publish(event, stream="orders")
        await all_applied(service, 1)
    assert await _total(service, "ORD-M") == Decimal("7.05")


async def _three_changes(service: Service) -> None:
    """Make one customer new, returning and vip, and another one at risk at once."""
    now = datetime.now(UTC)
    orders = [
        fields(f"ORD-{n}", email="jane@x.org", name="Jane Doe", phone="555-77", total=f"{n}.10")
        for n in (1, 2, 3)
    ]
    old = fields("ORD-4", email="old@x.org", total="1", created=now - timedelta(days=70))
    async with working(service, batch_size=1):
        await publish_all(service, orders)
        await all_applied(service, 3)
        await all_published(service)
        # Published last, because changes are in order per customer only, not between customers.
        await publish_all(service, [old])
        await all_applied(service, 4)
        await all_published(service)


async def test_a_plain_client_reads_the_changes(service: Service) -> None:
    await _three_changes(service)
    client = Raw(service.servers.redis_url)
    stream, group = b"customer-segment-changed", b"analytics"
    client.call(b"XGROUP", b"CREATE", stream, group, b"0")
    ((name, entries),) = client.call(
        b"XREADGROUP", b"GROUP", group, b"me", b"COUNT", b"10", b"STREAMS", stream, b">"
    )
    client.close()
    assert name == stream
    assert [id_ for id_, _ in entries] == [b"1-0", b"2-0", b"3-0", b"4-0"]
    assert all(field == b"__data__" for _, (field, _) in entries)
    bodies = [body for _, (_, body) in entries]
    document = json.loads(bodies[2], parse_float=Decimal)
    data = document.pop("data")
    changed_at, last_order = data.pop("changedAt"), data.pop("lastOrderDate")
    assert document == {
        "specversion": "1.0",
        "id": "CUST-1001:3",
        "source": "/recovery-essentials-crm",
        "type": "customer-segment-changed",
        "time": changed_at,
        "subject": "CUST-1001",
        "datacontenttype": "application/json",
    }
    assert data == {
        "customerId": "CUST-1001",
        "previousSegment": "returning",
        "segment": "vip",
        "cause": "order",
        "totalOrders": 3,
        "totalSpent": Decimal("6.30"),
        "settingsVersion": 1,
        "sequence": 3,
    }
    assert b'"totalSpent":6.30,' in bodies[2]
    assert b'"totalSpent":1.00,' in bodies[3]
    assert all(moment.endswith("Z") for moment in (changed_at, last_order))
    first = json.loads(bodies[0])["data"]
    assert (first["previousSegment"], first["segment"], first["sequence"]) == (None, "new", 1)


async def test_changes_contain_no_personal_data(service: Service) -> None:
    await _three_changes(service)
    everything = b"".join(entry.body for entry in await out_stream(service)).lower()
    assert everything
    for personal in (b"jane", b"doe", b"x.org", b"555-77", b"@"):
        assert personal not in everything


async def test_an_ordinary_faststream_subscriber_reads_the_changes(service: Service) -> None:
    await _three_changes(service)
    broker = RedisBroker(service.servers.redis_url)
    received: list[SegmentChanged] = []

    @broker.subscriber(
        stream=StreamSub("customer-segment-changed", group="analytics", consumer="me", last_id="0")
    )
    async def handle(event: SegmentChanged) -> None:
        received.append(event)

    async def all_received() -> bool:
        return len(received) == 4

    async with broker:
        await broker.start()
        await until(all_received)
    changes = [event.data for event in received]
    jane, old = await service.rows("SELECT id FROM customers ORDER BY id")
    assert [(change.customer_id, change.sequence) for change in changes] == [
        *((f"CUST-{jane['id']}", sequence) for sequence in (1, 2, 3)),
        (f"CUST-{old['id']}", 1),
    ]
    assert [change.segment for change in changes] == ["new", "returning", "vip", "at_risk"]
    assert changes[2].total_spent == Decimal("6.30")
