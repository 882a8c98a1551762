"""Whoever writes the out-stream is not believed, and does not stop the relay of others."""

import json
from typing import Any

import pytest

from service.core.stream_ids import parse
from service.db.operations import foreign_entries
from service.db.operations.foreign_entries import ForeignRecord
from tests.conftest import Service
from tests.integration.worker.scene import (
    all_published,
    change,
    out_stream,
    relaying,
    stored_changes,
)
from tests.wait import until

LAST = 2**64 - 1
GROUP, READER = "analytics", "reader"


def forged(customer: str, sequence: int, **data: Any) -> dict[bytes, bytes]:
    """Return the fields of an entry with the form of a change of ours."""
    body = {
        "specversion": "1.0",
        "id": f"{customer}:{sequence}",
        "source": "/recovery-essentials-crm",
        "type": "customer-segment-changed",
        "time": "2026-11-22T10:00:00Z",
        "subject": customer,
        "datacontenttype": "application/json",
        "data": {
            "customerId": customer,
            "previousSegment": "new" if sequence > 1 else None,
            "segment": "vip",
            "cause": "order",
            "totalOrders": 2,
            "totalSpent": 20.0,
            "lastOrderDate": "2026-11-22T09:59:58Z",
            "settingsVersion": 1,
            "changedAt": "2026-11-22T10:00:00Z",
            "sequence": sequence,
            **data,
        },
    }
    return {b"__data__": json.dumps(body).encode()}


async def recorded(service: Service) -> list[ForeignRecord]:
    async with service.engine.connect() as connection:
        return list(await foreign_entries.records(connection))


async def add(service: Service, fields: dict[bytes, bytes], id_: str = "*") -> str:
    raw: Any = service.redis
    return str((await raw.xadd(service.config.changes_stream, fields, id=id_)).decode())


async def noticed(service: Service, records: int = 1) -> list[ForeignRecord]:
    """Wait until so much was recorded."""

    async def is_recorded() -> bool:
        return len(await recorded(service)) == records

    await until(is_recorded)
    return await recorded(service)


async def held_back(service: Service, customer: int) -> None:
    """Wait until the changes of a customer wait. The entry is recorded a moment earlier."""

    async def is_held_back() -> bool:
        return await service.rows("SELECT customer_id FROM unknown_changes") == [
            {"customer_id": customer}
        ]

    await until(is_held_back)


async def acknowledged(service: Service) -> None:
    async with service.engine.begin() as connection:
        for record in await foreign_entries.records(connection, open_only=True):
            assert await foreign_entries.acknowledge(connection, record.id, "test")


FOREIGN = {
    "no change": {b"hello": b"world"},
    "not JSON": {b"__data__": b"\xff\x00"},
    "nested": {b"__data__": b"[" * 4000},
    "20 MB": {b"__data__": b"x" * 20_000_000},
    "20,000 fields": {f"{n}".encode(): b"x" for n in range(20_000)},
    "the greatest customer id": forged("CUST-9223372036854775806", 2),
    "a customer id that nobody has yet for long": forged("CUST-999999999999999999", 2),
    "the greatest sequence": forged("CUST-1001", 2**31 - 1),
    "a sequence beyond int": forged("CUST-1001", 2**31),
    "a total that is no number": forged("CUST-1001", 2, totalSpent=float("nan")),
    "a total that cannot be stored": forged("CUST-1001", 2, totalSpent=1e300),
    "orders beyond int": forged("CUST-1001", 2, totalOrders=2**31),
    "settings beyond int": forged("CUST-1001", 2, settingsVersion=2**63),
    "a time long ago": forged("CUST-1001", 2, changedAt="0001-01-01T00:00:00Z"),
    "a time to come": forged("CUST-1001", 2, changedAt="9999-12-31T23:59:59Z"),
    "no segment": forged("CUST-1001", 2, segment="gold"),
    "a text for a number": forged("CUST-1001", 2, totalOrders="2"),
    "a change that was published before": forged("CUST-1001", 1),
}


@pytest.mark.parametrize("fields", FOREIGN.values(), ids=FOREIGN)
async def test_an_entry_that_cannot_be_ours_is_recorded_and_removed(
    service: Service, fields: dict[bytes, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    await change(service, 1, 2)
    async with relaying(service):
        await all_published(service)
        foreign = await add(service, fields)
        (record,) = await noticed(service)
        await change(service, 1, 2, 3)
        await all_published(service)
    assert (record.kind, record.first_id, record.entries) == ("foreign", foreign, 1)
    assert len(record.sample) <= 1024
    places = [entry.place for entry in await out_stream(service)]
    assert len(places) == 5
    assert set(places) == await stored_changes(service)
    assert caplog.text.count("somebody else wrote") == 1
    assert [finding.number for finding in await service.findings()] == [6]
    await acknowledged(service)
    assert await service.rows("SELECT max(id) FROM customers") == [{"max": 1003}]


@pytest.mark.parametrize(
    "id_",
    [
        "2-1",
        f"2-{LAST}",
        "3-0",
        f"{2**53}-0",
        f"{2**53 + 1}-0",
        f"{2**63 - 1}-0",
        f"{2**63}-0",
        f"{2**63 + 5}-7",
        f"{LAST}-0",
        f"{LAST}-{LAST}",
    ],
)
async def test_no_id_stops_the_relay_or_a_subscriber(service: Service, id_: str) -> None:
    raw: Any = service.redis
    stream = service.config.changes_stream
    await change(service, 1, 2)
    async with relaying(service):
        await all_published(service)
        await raw.xgroup_create(stream, GROUP, id="0")
        await raw.xgroup_create(stream, "late", id="0")
        await _read(service, GROUP, acknowledge=1)  # the second one stays pending
        await add(service, {b"hello": b"world"}, id_)
        await noticed(service)
        await change(service, 1, 2, 3)
        await all_published(service)

        async def all_there() -> bool:
            return len(await out_stream(service)) == 5

        await until(all_there)
        await change(service, 4)
        await all_published(service)
        seen = {*await _read(service, GROUP, "0"), *await _read(service, GROUP)}
        assert seen >= {entry.place for entry in (await out_stream(service))[1:]}
        assert len(await _read(service, "late")) == 6
    assert {entry.place for entry in await out_stream(service)} == await stored_changes(service)
    assert parse((await out_stream(service))[-1].id) < (2**53 + 100, 0)
    await acknowledged(service)


async def _read(
    service: Service, group: str, after: str = ">", *, acknowledge: int = 0
) -> list[tuple[str, int]]:
    raw: Any = service.redis
    stream = service.config.changes_stream
    answer = await raw.xreadgroup(group, READER, {stream: after}, count=100)
    entries = [(id_, fields) for id_, fields in answer[0][1] if fields] if answer else []
    for id_, _ in entries[:acknowledge]:
        await raw.xack(stream, group, id_)
    changes = [json.loads(fields.get(b"__data__", b'{"data":{}}'))["data"] for _, fields in entries]
    return [(data["customerId"], data["sequence"]) for data in changes if data]


@pytest.mark.parametrize("last", ["7-0", f"{2**53}-5", f"{2**63}-0", f"{LAST}-{LAST}"])
async def test_a_last_id_that_was_moved_does_not_stop_the_relay(
    service: Service, last: str
) -> None:
    raw: Any = service.redis
    await change(service, 1, 2)
    async with relaying(service):
        await all_published(service)
        await raw.execute_command("XSETID", service.config.changes_stream, last)
        await change(service, 1, 2, 3)
        await all_published(service)

        async def all_there() -> bool:
            return len(await out_stream(service)) == 5

        await until(all_there)
    assert {entry.place for entry in await out_stream(service)} == await stored_changes(service)
    await acknowledged(service)


async def test_a_flood_does_not_stop_the_relay(service: Service) -> None:
    raw: Any = service.redis
    await change(service, 1)
    async with relaying(service):
        await all_published(service)
        pipeline = raw.pipeline(transaction=False)
        for _ in range(3000):
            pipeline.xadd(service.config.changes_stream, {b"hello": b"world"})
        await pipeline.execute()
        await change(service, 1, 2)
        await all_published(service)
    (record,) = await recorded(service)
    assert record.entries == 3000
    assert len(await out_stream(service)) == 3
    await acknowledged(service)


async def test_a_forged_change_is_not_believed_and_stops_only_its_customer(
    empty_service: Service,
) -> None:
    service = empty_service
    await change(service, 1, 2)
    before = await service.rows("SELECT * FROM segment_changes ORDER BY id")
    async with relaying(service):
        await all_published(service)
        await add(service, forged("CUST-1001", 2))
        (record,) = await noticed(service)
        assert record.kind == "unknown"
        await change(service, 2, 3)

        async def others_published() -> bool:
            return len(await out_stream(service)) == 5

        await until(others_published)
        await change(service, 1)
    rows = await service.rows("SELECT * FROM segment_changes ORDER BY id")
    assert [row["publish_number"] for row in before] == [None, None]
    assert len(rows) == 5, "the forged change is not in the history"
    assert [row["customer_id"] for row in rows if row["publish_number"] is None] == [1001]
    assert await service.rows("SELECT customer_id FROM unknown_changes") == [{"customer_id": 1001}]
    numbers = [finding.number for finding in await service.findings()]
    assert numbers == [6]


async def test_a_customer_who_waits_waits_for_the_next_relay_too(empty_service: Service) -> None:
    service = empty_service
    await change(service, 1, 2)
    async with relaying(service):
        await all_published(service)
        await add(service, forged("CUST-1001", 2))
        await held_back(service, 1001)
    await service.redis.delete(service.config.changes_stream)
    await change(service, 1, 2)
    async with relaying(service):

        async def published() -> bool:
            return len(await out_stream(service)) == 3

        await until(published)
    assert [entry.place for entry in await out_stream(service)] == [
        ("CUST-1001", 1),
        ("CUST-1002", 1),
        ("CUST-1002", 2),
    ]
    assert len(await recorded(service)) == 1
