"""``crm recover`` takes back what a restored database has forgotten, and nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest

from service.core.endpoints import EventKind, make_secret
from service.core.stream_ids import write
from service.db.operations import endpoints
from service.db.operations.endpoints import NewEndpoint
from service.db.operations.recover import RecoverReport, Request, recover
from tests.conftest import Service
from tests.integration.cli.conftest import Crm
from tests.integration.worker.scene import (
    all_published,
    change,
    in_order_without_holes,
    out_stream,
    relaying,
)
from tests.integration.worker.test_foreign_entries import (
    acknowledged,
    add,
    forged,
    noticed,
    recorded,
)
from tests.wait import until

BIGINT = 2**63


@pytest.fixture
def run(empty_service: Service, tmp_path: Path) -> Crm:
    """Return the command."""
    return Crm(empty_service.servers, tmp_path)


async def published(service: Service, *customers: int) -> None:
    await change(service, *customers)
    async with relaying(service):
        await all_published(service)


async def forget(service: Service, after: int) -> None:
    """Make the database as old as it was when it published change ``after``."""
    await service.execute(
        "DELETE FROM orders WHERE customer_id NOT IN"
        " (SELECT customer_id FROM segment_changes WHERE publish_number <= :after)",
        after=after,
    )
    await service.execute(
        "DELETE FROM customers WHERE id NOT IN"
        " (SELECT customer_id FROM segment_changes WHERE publish_number <= :after)",
        after=after,
    )
    await service.execute(
        "DELETE FROM customer_search WHERE customer_id NOT IN (SELECT id FROM customers)"
    )
    await service.execute("DELETE FROM segment_changes WHERE publish_number > :after", after=after)
    await service.execute("UPDATE relay SET numbered = :after, published = :after", after=after)
    await service.execute(
        "SELECT setval(pg_get_serial_sequence('customers', 'id'), (SELECT max(id) FROM customers))"
    )


async def taken_back(service: Service, request: Request) -> RecoverReport:
    return await recover(
        service.engine, service.redis, service.config.changes_stream, request, "test"
    )


async def last_id(service: Service) -> int:
    (row,) = await service.rows(
        "SELECT last_value FROM pg_sequences WHERE sequencename = 'customers_id_seq'"
    )
    return int(row["last_value"])


async def sound(service: Service) -> None:
    """Fail unless history and stream agree; the counters were not restored with the rest."""
    numbers = [finding.number for finding in await service.findings()]
    assert {5, 6}.isdisjoint(numbers), await service.findings()


async def test_forgotten_changes_are_shown_and_then_taken_back(
    empty_service: Service, run: Crm
) -> None:
    service = empty_service
    await published(service, 1, 2)
    await published(service, 1, 2)
    before = await out_stream(service)
    await forget(service, 2)
    told = await run("recover")
    assert told.status == 0, told.err
    assert "Would take back 2 changes of 2 customers, with the publish numbers 3 to 4" in told.out
    assert "Nothing was written" in told.out
    assert await service.rows("SELECT numbered FROM relay") == [{"numbered": 2}]
    assert (await run("replay", "--all")).status == 1
    told = await run("recover", "--apply")
    assert (told.status, "Took back 2 changes" in told.out) == (0, True)
    assert await out_stream(service) == before
    await sound(service)
    assert "no changes" in (await run("recover")).out
    await published(service, 1, 2, 3)
    await in_order_without_holes(service)
    (row,) = await service.rows("SELECT details FROM audit WHERE action = 'changes.recovered'")
    assert row["details"] == {"changes": 2, "first": 3, "last": 4, "refused": 0}


async def test_endpoints_get_what_came_back_below_what_they_had(
    empty_service: Service, run: Crm
) -> None:
    """They have got later changes meanwhile, and perhaps not all of those that were forgotten."""
    service = empty_service
    new = NewEndpoint("https://8.8.8.8/", [EventKind.CHANGED])
    await service.in_transaction(endpoints.add, new, make_secret(), "test")
    await published(service, 1, 2)
    await published(service, 1)
    await forget(service, 2)
    async with relaying(service):
        await noticed(service)
        await change(service, 2)

        async def is_published() -> bool:
            return ("CUST-1002", 2) in [entry.place for entry in await out_stream(service)]

        await until(is_published)
    await service.execute("UPDATE endpoints SET change_cursor = (SELECT published FROM relay)")
    assert (await run("recover", "--apply")).status == 0
    (row,) = await service.rows("SELECT change_cursor, version FROM endpoints")
    assert row == {"change_cursor": 2, "version": 2}


async def test_a_relay_that_ran_first_keeps_the_changes_until_a_person_decides(
    empty_service: Service, run: Crm
) -> None:
    service = empty_service
    await published(service, 1, 2)
    await published(service, 1)
    await forget(service, 2)
    async with relaying(service) as relay:
        await noticed(service)
        await change(service, 1, 2)

        async def is_published() -> bool:
            return ("CUST-1002", 2) in [entry.place for entry in await out_stream(service)]

        await until(is_published)
        assert relay.leading
        told = await run("recover", "--apply")
        assert (told.status, "Stop all workers first" in told.err) == (1, True)
        assert "Would take back 1 change of 1 customer" in (await run("recover")).out
    assert (await run("recover", "--apply")).status == 0
    async with relaying(service):
        await all_published(service)
    assert (await run("foreign")).out == "Nothing that is not acknowledged.\n"
    await sound(service)
    await in_order_without_holes(service)


async def test_forgotten_customers_need_to_be_confirmed(empty_service: Service, run: Crm) -> None:
    service = empty_service
    await published(service, 1)
    await published(service, 2, 3)
    await forget(service, 1)
    assert await last_id(service) == 1001
    told = await run("recover")
    assert told.status == 1
    assert "does not know the customer" in told.out
    assert "add --new-customers-up-to CUST-1003" in told.out
    told = await run("recover", "--new-customers-up-to", "CUST-1003", "--apply", "--json")
    assert told.status == 0, told.err
    assert told.document["newCustomers"] == ["CUST-1002", "CUST-1003"]
    assert await last_id(service) == 1003
    await published(service, 4)
    assert (await out_stream(service))[-1].place == ("CUST-1004", 1)
    gone = await out_stream(service, service.config.removals_stream)
    assert [entry.document["subject"] for entry in gone] == ["CUST-1002", "CUST-1003"]
    await sound(service)


FORGED = {
    "a hole in the sequence": (forged("CUST-1001", 3), "sequence does not follow"),
    "a great sequence": (forged("CUST-1001", 10**9), "sequence does not follow"),
    "another segment before": (
        forged("CUST-1001", 2, previousSegment="at_risk"),
        "previous segment is not the one before",
    ),
    "a customer who does not exist": (forged("CUST-1500", 1), "does not know the customer"),
    "a customer far away": (forged(f"CUST-{10**12}", 1), "does not know the customer"),
    "a customer beyond all": (forged(f"CUST-{BIGINT - 2}", 1), "impossible value: customerId"),
    "the greatest sequence": (forged("CUST-1001", 2**31 - 1), "impossible value: sequence"),
    "no change": ({b"hello": b"world"}, "does not have the form"),
}


@pytest.mark.parametrize(("fields", "reason"), FORGED.values(), ids=FORGED)
async def test_a_forged_change_is_refused_and_removed(
    empty_service: Service, fields: dict[bytes, bytes], reason: str
) -> None:
    service = empty_service
    await published(service, 1)
    history = await service.rows("SELECT * FROM segment_changes")
    foreign = await add(service, fields, "2-0")
    for apply in (False, True):
        report = await taken_back(service, Request(apply=apply))
        ((said, refused),) = report.refused.items()
        assert reason in said
        assert foreign in refused.examples[0]
        assert len(await recorded(service)) == apply
    assert await service.rows("SELECT * FROM segment_changes") == history
    assert await last_id(service) == 1001
    assert (await recorded(service))[0].first_id == foreign
    await published(service, 1, 2)
    assert len(await out_stream(service)) == 3
    await acknowledged(service)
    assert await service.findings() == []


async def test_an_id_of_any_size_is_refused(empty_service: Service) -> None:
    service = empty_service
    await published(service, 1)
    id_ = write((2**64 - 1, 2**64 - 1))
    await add(service, forged("CUST-1001", 2), id_)
    report = await taken_back(service, Request(apply=True))
    ((refused),) = report.refused.values()
    assert refused.examples == [id_]
    await published(service, 1, 2)
    async with relaying(service):
        await all_published(service)
    await acknowledged(service)
    assert await service.findings() == []


async def test_genuine_changes_around_a_forged_one_are_taken(
    empty_service: Service, run: Crm
) -> None:
    service = empty_service
    await published(service, 1, 2)
    await published(service, 1)
    await published(service, 2)
    raw: Any = service.redis
    entries = await out_stream(service)
    await raw.delete(service.config.changes_stream)
    for number, body in ((1, 0), (2, 1), (3, 2), (5, 3)):
        await add(service, {b"__data__": entries[body].body}, f"{number}-0")
        if number == 3:
            await add(service, forged("CUST-1001", 2, segment="inactive"), "4-0")
    await forget(service, 2)
    told = await run("recover", "--apply", "--json")
    assert told.status == 1
    assert told.document["changes"] == 2
    (refused,) = told.document["refused"]
    assert refused["examples"] == ["4-0 (CUST-1001)"]
    assert [entry.id for entry in await out_stream(service)] == ["1-0", "2-0", "3-0", "5-0"]
    assert (await run("foreign", "--acknowledge", "1")).status == 0
    await sound(service)


async def test_everything_can_be_discarded(empty_service: Service, run: Crm) -> None:
    service = empty_service
    await published(service, 1)
    await add(service, forged("CUST-1001", 2), "2-0")
    assert (await run("recover")).status == 0, "a person could take it for a change of ours"
    told = await run("recover", "--discard", "--apply")
    assert (told.status, "it was discarded" in told.out) == (1, True)
    await published(service, 1)
    assert json.loads((await run("foreign", "--json")).out)[0]["kind"] == "refused"
    both = await run("foreign", "--acknowledge", "1", "--acknowledge", "2")
    assert (both.status, "no open record 2" in both.err) == (1, True)
    assert (await run("foreign", "--acknowledge", "1")).status == 0, "it was not acknowledged"
    assert await service.findings() == []


async def test_a_gap_needs_to_be_accepted(empty_service: Service) -> None:
    service = empty_service
    await published(service, 1)
    await add(service, forged("CUST-1001", 2), "5-0")
    refused = await taken_back(service, Request())
    assert ["see --accept-gaps" in reason for reason in refused.refused] == [True]
    accepted = await taken_back(service, Request(accept_gaps=True))
    assert (accepted.changes, dict(accepted.refused)) == (1, {})


@pytest.mark.parametrize("written", ["1001", f"CUST-{BIGINT}", f"CUST-{10**12 + 1}"])
async def test_a_wrong_customer_id_is_explained(run: Crm, written: str) -> None:
    told = await run("recover", "--new-customers-up-to", written)
    assert told.status == 1
    assert "is not the id of a customer" in told.err
