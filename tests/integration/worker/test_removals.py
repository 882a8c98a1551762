"""Subscribers learn that a customer is gone, with the promises that segment changes have."""

import contextlib
import json
import signal
from datetime import datetime
from typing import Any

import jsonschema_rs
import pytest
from sqlalchemy.exc import IntegrityError

from service.core.foreign_kinds import ForeignKind
from service.core.removal_event import RemovalReason
from service.db.customers import editing, removals
from service.db.operations import trimming
from service.db.operations.out_streams import out_streams
from service.db.operations.rebuild import rebuild
from service.http.asyncapi import REMOVAL_EXAMPLE, asyncapi
from service.streams.trim import Keep
from tests.conftest import Service
from tests.integration.worker.scene import (
    Published,
    all_published,
    change,
    out_stream,
    relaying,
)
from tests.integration.worker.test_foreign_entries import LAST, acknowledged, noticed, recorded
from tests.processes import Processes
from tests.wait import until

FIRST = 1001
"""The number of the first customer."""


async def erase(service: Service, *customers: int) -> None:
    """Erase customers, each in a transaction of its own."""
    for customer in customers:
        async with service.engine.begin() as connection:
            await editing.delete(connection, "test", customer)


async def removed(service: Service) -> list[Published]:
    """Return all entries of the stream of removals."""
    return await out_stream(service, service.config.removals_stream)


async def customers_of(service: Service) -> list[str]:
    return [entry.document["subject"] for entry in await removed(service)]


async def all_there(service: Service, entries: list[Published]) -> None:
    async def is_back() -> bool:
        return await removed(service) == entries

    await until(is_back)


def forged(customer: str, reason: str = "erased", **data: Any) -> dict[bytes, bytes]:
    """Return the fields of an entry with the form of a removal of ours."""
    at = "2026-11-22T10:00:00Z"
    merged_into = "CUST-1" if reason == "merged" else None
    body = {
        "specversion": "1.0",
        "id": f"{customer}:removed",
        "source": "/recovery-essentials-crm",
        "type": "customer-removed",
        "time": at,
        "subject": customer,
        "datacontenttype": "application/json",
        "data": {
            "customerId": customer,
            "reason": reason,
            "mergedInto": merged_into,
            "removedAt": at,
            **data,
        },
    }
    return {b"__data__": json.dumps(body).encode()}


async def add(service: Service, fields: dict[bytes, bytes], id_: str = "*") -> str:
    raw: Any = service.redis
    return str((await raw.xadd(service.config.removals_stream, fields, id=id_)).decode())


async def test_an_erasure_is_announced_without_personal_data(service: Service) -> None:
    await change(service, 1, 2)
    async with relaying(service):
        await erase(service, FIRST)
        await all_published(service)
    (entry,) = await removed(service)
    (row,) = await service.rows("SELECT removed_at FROM removals")
    document = entry.document
    at = document["time"]
    assert document == {
        "specversion": "1.0",
        "id": "CUST-1001:removed",
        "source": "/recovery-essentials-crm",
        "type": "customer-removed",
        "time": at,
        "subject": "CUST-1001",
        "datacontenttype": "application/json",
        "data": {
            "customerId": "CUST-1001",
            "reason": "erased",
            "mergedInto": None,
            "removedAt": at,
        },
    }
    assert datetime.fromisoformat(at) == row["removed_at"]
    assert entry.id == "1-0"
    schema = asyncapi()["components"]["schemas"]["customerRemoved"]
    for example in (document, REMOVAL_EXAMPLE):
        jsonschema_rs.validate(schema, example)


async def test_a_merge_names_who_stayed_and_all_is_one_transaction(empty_service: Service) -> None:
    service = empty_service
    await change(service, 1, 2, 3)
    with contextlib.suppress(RuntimeError):
        async with service.engine.begin() as connection:
            await removals.add(connection, [FIRST], RemovalReason.ERASED)
            raise RuntimeError
    async with service.engine.begin() as connection:
        gone = [FIRST + 2, FIRST + 1]
        await removals.add(connection, gone, RemovalReason.MERGED, merged_into=FIRST)
    async with relaying(service):
        await all_published(service)
    told = [entry.document["data"] for entry in await removed(service)]
    assert [(data["customerId"], data["reason"], data["mergedInto"]) for data in told] == [
        ("CUST-1002", "merged", "CUST-1001"),
        ("CUST-1003", "merged", "CUST-1001"),
    ]


@pytest.mark.parametrize(
    ("customer", "reason", "merged_into"),
    [
        (1, RemovalReason.MERGED, None),
        (1, RemovalReason.MERGED, 1),
        (1, RemovalReason.ERASED, 2),
        (9, RemovalReason.ERASED, None),
    ],
)
async def test_the_database_refuses_a_removal_that_contradicts_itself_or_comes_twice(
    empty_service: Service, customer: int, reason: RemovalReason, merged_into: int | None
) -> None:
    service = empty_service
    async with service.engine.begin() as connection:
        await removals.add(connection, [9], RemovalReason.NOT_A_PERSON)
    with pytest.raises(IntegrityError):
        async with service.engine.begin() as connection:
            await removals.add(connection, [customer], reason, merged_into=merged_into)


async def test_the_notification_wakes_the_relay(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumers.relay._POLL_SECONDS", 3600.0)
    monkeypatch.setattr("consumers.relay._STEP_SECONDS", 7200.0)
    await change(service, 1)
    async with relaying(service) as relay:

        async def waits() -> bool:
            return relay.leading and not (await _unpublished(service))

        await until(waits)
        await erase(service, FIRST)
        await all_published(service)


async def _unpublished(service: Service) -> int:
    (row,) = await service.rows(
        "SELECT count(*) AS n FROM segment_changes WHERE publish_number IS NULL"
    )
    return int(row["n"])


async def test_a_killed_relay_loses_no_removal(service: Service, crm: Processes) -> None:
    await change(service, *range(1, 61))
    leader = await crm.worker()

    async def leads() -> bool:
        return "this worker relays now" in leader.output

    await until(leads)
    other = await crm.worker()
    await erase(service, *range(FIRST, FIRST + 20))
    leader.send(signal.SIGSTOP)
    await erase(service, *range(FIRST + 20, FIRST + 40))
    await leader.kill()
    await erase(service, *range(FIRST + 40, FIRST + 60))
    await all_published(service)
    assert "this worker relays now" in other.output
    assert await customers_of(service) == [f"CUST-{FIRST + n}" for n in range(60)]
    assert [entry.number for entry in await removed(service)] == list(range(1, 61))


async def test_a_crash_between_xadd_and_marking_it_duplicates_no_removal(service: Service) -> None:
    await change(service, 1, 2, 3)
    await erase(service, FIRST, FIRST + 1)
    async with relaying(service):
        await all_published(service)
    before = await removed(service)
    await service.execute("UPDATE removals_relay SET published = 0")
    async with relaying(service):
        await all_published(service)
        await erase(service, FIRST + 2)
        await all_published(service)
    after = await removed(service)
    assert after[:2] == before
    assert [entry.id for entry in after] == ["1-0", "2-0", "3-0"]


async def test_a_wiped_redis_gets_both_streams_again_to_the_byte(service: Service) -> None:
    await change(service, 1, 2, 3)
    await erase(service, FIRST, FIRST + 2)
    async with relaying(service):
        await all_published(service)
        before = await removed(service), await out_stream(service)
        assert [len(entries) for entries in before] == [2, 3]
        await service.redis.flushall()
        await all_there(service, before[0])

        async def changes_back() -> bool:
            return await out_stream(service) == before[1]

        await until(changes_back)
        await service.redis.delete(service.config.removals_stream)
        await all_there(service, before[0])
    await service.redis.flushall()
    await erase(service, FIRST + 1)
    async with relaying(service):
        await all_published(service)

        async def one_more() -> bool:
            return len(await removed(service)) == 3

        await until(one_more)
    assert (await removed(service))[:2] == before[0]


async def test_one_of_two_relays_publishes(service: Service) -> None:
    await change(service, *range(1, 31))
    async with relaying(service) as one, relaying(service) as two:

        async def one_leads() -> bool:
            return one.leading != two.leading

        await until(one_leads)
        await erase(service, *range(FIRST, FIRST + 15))
        await all_published(service)
        assert one.leading != two.leading
        await service.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"
        )
        await erase(service, *range(FIRST + 15, FIRST + 30))
        await all_published(service)
    assert await customers_of(service) == [f"CUST-{FIRST + n}" for n in range(30)]


async def test_what_was_trimmed_is_not_published_again(service: Service) -> None:
    async with service.engine.begin() as connection:
        await removals.add(connection, range(1, 601), RemovalReason.NOT_A_PERSON)
    _, stream = out_streams(service.config)
    async with relaying(service):
        await all_published(service)
        async with service.engine.begin() as connection:
            await trimming.trim_published(connection, service.redis, stream, Keep(None, 100))
        before = await removed(service)
        assert 100 <= len(before) < 300
        assert await service.findings() == []
        await service.redis.delete(stream.name)
        await all_there(service, before)


FOREIGN = {
    "no removal": {b"hello": b"world"},
    "not JSON": {b"__data__": b"\xff\x00"},
    "20 MB": {b"__data__": b"x" * 20_000_000},
    "too long": {b"__data__": forged("CUST-1002")[b"__data__"] + b" " * 4096},
    "the greatest customer id": forged("CUST-9223372036854775806"),
    "a customer id with a leading zero": forged("CUST-01002"),
    "no reason of ours": forged("CUST-1002", "bored"),
    "merged into nobody": forged("CUST-1002", "merged", mergedInto=None),
    "merged into itself": forged("CUST-1002", "merged", mergedInto="CUST-1002"),
    "merged into no customer": forged("CUST-1002", "merged", mergedInto="CUST-0"),
    "erased, and merged": forged("CUST-1002", mergedInto="CUST-1001"),
    "a time to come": forged("CUST-1002", removedAt="9999-12-31T23:59:59Z"),
    "a time long ago": forged("CUST-1002", removedAt="0001-01-01T00:00:00Z"),
    "another subject": forged("CUST-1002", customerId="CUST-1003"),
    "a removal that was published before": forged("CUST-1001"),
}


@pytest.mark.parametrize("fields", FOREIGN.values(), ids=FOREIGN)
async def test_an_entry_that_cannot_be_ours_is_recorded_and_removed(
    service: Service, fields: dict[bytes, bytes]
) -> None:
    await change(service, 1, 2)
    await erase(service, FIRST)
    async with relaying(service):
        await all_published(service)
        foreign = await add(service, fields)
        (record,) = await noticed(service)
        await erase(service, FIRST + 1)
        await all_published(service)
    assert (record.kind, record.first_id, record.entries) == ("foreign", foreign, 1)
    assert record.stream == service.config.removals_stream
    assert await customers_of(service) == ["CUST-1001", "CUST-1002"]
    assert [finding.number for finding in await service.findings()] == [6]
    await acknowledged(service)


@pytest.mark.parametrize("id_", ["2-1", "3-0", f"{2**53 + 1}-0", f"{LAST}-0"])
async def test_no_id_stops_the_relay(service: Service, id_: str) -> None:
    await change(service, 1, 2, 3)
    await erase(service, FIRST, FIRST + 1)
    async with relaying(service):
        await all_published(service)
        await add(service, {b"hello": b"world"}, id_)
        await noticed(service)
        await erase(service, FIRST + 2)
        await all_published(service)

        async def complete() -> bool:
            return len(await removed(service)) == 3

        await until(complete)
    assert await customers_of(service) == ["CUST-1001", "CUST-1002", "CUST-1003"]
    await acknowledged(service)


async def test_an_unknown_removal_is_not_obeyed_but_named_and_the_next_ones_go_on(
    service: Service,
) -> None:
    await change(service, 1, 2, 3)
    await erase(service, FIRST)
    async with relaying(service):
        await all_published(service)
        await add(service, forged("CUST-1002"), "7-0")
        await add(service, forged("CUST-1003", "merged"), "9-0")
        records = await noticed(service, 2)
        await change(service, 2)
        await erase(service, FIRST + 2)
        await all_published(service)
    assert {record.kind for record in records} == {ForeignKind.UNKNOWN}
    assert "about CUST-1003" in records[0].reason
    assert "about CUST-1002" in records[1].reason
    assert len(await service.rows("SELECT 1 FROM customers")) == 1
    assert [(entry.id, entry.document["subject"]) for entry in await removed(service)] == [
        ("1-0", "CUST-1001"),
        ("10-0", "CUST-1003"),
    ]
    assert await service.rows("SELECT 1 FROM segment_changes WHERE publish_number IS NULL") == []
    assert [finding.number for finding in await service.findings()] == [6]
    await acknowledged(service)


async def test_a_flood_of_unknown_removals_does_not_fill_the_database(
    empty_service: Service,
) -> None:
    service = empty_service
    raw: Any = service.redis
    pipeline = raw.pipeline(transaction=False)
    for number in range(1, 2501):
        pipeline.xadd(service.config.removals_stream, forged(f"CUST-{number}"), id=f"{number}-0")
    await pipeline.execute()
    async with relaying(service):

        async def is_empty() -> bool:
            return await removed(service) == []

        await until(is_empty)
        await change(service, 1)
        await erase(service, FIRST)
        await all_published(service)
    async with service.engine.connect() as connection:
        rows = await connection.exec_driver_sql(
            "SELECT count(*), sum(entries) FROM foreign_entries"
        )
        assert tuple(rows.one()) == (100, 2500)
    assert [entry.id for entry in await removed(service)] == ["2501-0"]


async def test_a_removal_after_a_restore_has_the_same_event_id(service: Service) -> None:
    await change(service, 1, 2)
    await erase(service, FIRST)
    async with relaying(service):
        await all_published(service)
    (before,) = await removed(service)
    # The database is as old as it was before the removal, and the person is removed again.
    await service.execute("DELETE FROM removals")
    await service.execute("UPDATE removals_relay SET numbered = 0, published = 0")
    async with service.engine.begin() as connection:
        await removals.add(connection, [FIRST], RemovalReason.ERASED)
    async with relaying(service):
        await all_published(service)
    (after,) = await removed(service)
    assert after.document["id"] == before.document["id"]
    assert after.number > before.number
    assert await recorded(service) == []


@pytest.mark.parametrize("blocked", ["changes_stream", "removals_stream"])
async def test_a_stream_that_redis_refuses_does_not_stop_the_other(
    service: Service, blocked: str, caplog: pytest.LogCaptureFixture
) -> None:
    raw: Any = service.redis
    await raw.set(getattr(service.config, blocked), "somebody put a text here")
    await change(service, 1, 2)
    await erase(service, FIRST)
    other, entries = {
        "changes_stream": (service.config.removals_stream, 1),
        "removals_stream": (service.config.changes_stream, 2),
    }[blocked]
    async with relaying(service):

        async def other_published() -> bool:
            is_told = "cannot be published" in caplog.text
            return is_told and len(await out_stream(service, other)) == entries

        await until(other_published)
        await raw.delete(getattr(service.config, blocked))
        await all_published(service)
    assert caplog.text.count("cannot be published") == 1


async def test_whom_an_earlier_release_erased_meanwhile_is_found_and_announced(
    service: Service,
) -> None:
    await change(service, 1, 2)
    await erase(service, FIRST)
    await service.execute("DELETE FROM removals")
    assert [finding.number for finding in await service.findings()] == [6]
    report = await rebuild(service.engine, apply=True, actor="test", show=20)
    assert report.left == []
    async with relaying(service):
        await all_published(service)
    (entry,) = await removed(service)
    assert entry.document["data"]["customerId"] == "CUST-1001"
    (row,) = await service.rows(
        "SELECT at = removed_at AS same FROM removals JOIN audit USING (customer_id)"
        " WHERE action = 'customer.erased'"
    )
    assert row["same"]
