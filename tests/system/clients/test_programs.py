"""The programs of `deploy/integrating.md` do what the page says, exactly as it prints them."""

import asyncio
import json
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from service.db.customers import editing
from service.streams import redis_client
from tests.conftest import Service
from tests.events import fields
from tests.integration.worker.scene import (
    Published,
    all_applied,
    all_published,
    out_stream,
    publish_all,
    totals,
    working,
)
from tests.paths import ROOT
from tests.processes import environment
from tests.system.clients.conftest import PROGRAMS, Page, Program
from tests.wait import until

SECONDS = 40.0
PUBLISHERS = [name for name in PROGRAMS if name.startswith("publish")]
SUBSCRIBERS = [name for name in PROGRAMS if name.startswith("subscribe")]
_PRINTED = re.compile(r"(CUST-\d+) (\d+) (\w+)")

Change = tuple[str, int, str]
"""Customer, sequence, segment."""


async def test_the_redis_cli_commands_of_the_readme_work_as_described(
    service: Service, page: Page
) -> None:
    readme = (ROOT / "README.md").read_text()
    publish, read = re.findall(r"^```sh\n(redis-cli .*?)^```", readme, re.MULTILINE | re.DOTALL)
    (page.folder / "publish-one.sh").write_text(publish)
    (page.folder / "read.sh").write_text(read)
    async with page.running("publish-one.sh") as (program, _), working(service):
        assert await asyncio.wait_for(program.process.wait(), SECONDS) == 0
        await all_applied(service, 1)
        await all_published(service)
    (jane,) = await service.rows("SELECT email, total_spent FROM customers")
    assert jane == {"email": "jane@example.com", "total_spent": Decimal("129.97")}
    async with page.running("read.sh") as (program, _):
        assert await asyncio.wait_for(program.process.wait(), SECONDS) == 0
        assert '"sequence":1}' in "".join(program.lines).replace("\\", "")


def test_the_command_of_the_readme_finds_the_url_of_redis(service: Service, tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text()
    (export,) = re.findall(r"^export CRM_REDIS_URL=.*$", readme, re.MULTILINE)
    if not (ROOT / ".venv/bin/crm").exists():
        pytest.skip("there is no .venv/bin/crm (make env)")
    done = subprocess.run(  # noqa: S603
        ["sh", "-c", f'{export}; echo "$CRM_REDIS_URL"'],  # noqa: S607
        cwd=ROOT,
        env=environment(service.servers, data_dir=tmp_path),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{service.servers.service_redis_url}\n"


@pytest.mark.parametrize("name", PUBLISHERS)
async def test_an_event_is_sent_again_when_its_answer_is_lost_and_counts_once(
    service: Service, page: Page, name: str
) -> None:
    async with page.running(name, lose=b"XADD") as (program, line):
        assert await asyncio.wait_for(program.process.wait(), SECONDS) == 0, program.lines
    assert line.lost
    async with working(service):
        await all_applied(service, 2)
    counted = await totals(service)
    assert (counted.read, counted.applied, counted.duplicate) == (2, 1, 1)
    (jane,) = await service.rows("SELECT name, email, segment::text, total_spent FROM customers")
    assert jane == {
        "name": "Jane Smith",
        "email": "jane@example.com",
        "segment": "new",
        "total_spent": Decimal("129.97"),
    }


def _changes(*programs: Program) -> list[Change]:
    matches = (_PRINTED.fullmatch(line) for program in programs for line in program.lines)
    return [(match[1], int(match[2]), match[3]) for match in matches if match]


def _published_changes(entries: Iterable[Published]) -> list[Change]:
    documents = (entry.document["data"] for entry in entries)
    return [(data["customerId"], data["sequence"], data["segment"]) for data in documents]


def _by_customer(changes: Iterable[Change]) -> dict[str, list[tuple[int, str]]]:
    by_customer = defaultdict(list)
    for customer, sequence, segment in changes:
        by_customer[customer].append((sequence, segment))
    return dict(by_customer)


async def _publish(service: Service, *orders: dict[bytes, bytes], after: int) -> None:
    """Publish orders, and wait until the service has published the changes that they cause."""
    await publish_all(service, orders)
    await all_applied(service, after + len(orders))
    await all_published(service)


async def _all_acknowledged(service: Service) -> None:
    """Wait until the group exists, has been given every entry and has acknowledged them all."""
    raw: Any = service.redis

    async def done() -> bool:
        stream = service.config.changes_stream
        last = redis_client.texts(await raw.xinfo_stream(stream))["last-generated-id"]
        groups = [redis_client.texts(group) for group in await raw.xinfo_groups(stream)]
        return [(group["last-delivered-id"], group["pending"]) for group in groups] == [(last, 0)]

    await until(done, SECONDS)


@pytest.mark.parametrize("name", SUBSCRIBERS)
async def test_each_change_is_handled_once_whatever_happens_to_the_subscriber(
    empty_service: Service, page: Page, name: str
) -> None:
    service = empty_service
    old = datetime.now(UTC) - timedelta(days=70)
    jane = [fields(f"ORD-{n}", email="jane@x.org", total="10") for n in (1, 2, 3)]
    async with working(service, batch_size=1):
        await _publish(service, *jane, fields("ORD-4", email="o@x.org", created=old), after=0)

        # The subscriber is killed between its work and the acknowledgement: entries stay pending.
        async with page.running(name, hold=b"XACK") as (first, line):

            async def is_held() -> bool:
                return line.held and bool(_changes(first))

            await until(is_held, SECONDS)
        await _publish(service, fields("ORD-5", email="john@x.org"), after=4)

        # Redis delivers entries, but its answer is lost on the way.
        async with page.running(name, lose=b"XREADGROUP") as (second, line):

            async def is_lost() -> bool:
                return line.lost

            await until(is_lost, SECONDS)
            cancelled = fields("ORD-3", email="jane@x.org", status="cancelled", version=2)
            await _publish(service, cancelled, after=5)
            changes = _published_changes(await out_stream(service))

            async def all_handled() -> bool:
                return len(_changes(first, second)) >= len(changes) == 6

            await until(all_handled, SECONDS)
            await _all_acknowledged(service)
            handled = _changes(first, second)
            assert _by_customer(handled) == _by_customer(changes)
            assert "missed" not in "".join(second.lines)
    assert await service.findings() == []


@pytest.mark.parametrize("name", SUBSCRIBERS)
async def test_duplicates_are_dropped_and_holes_are_reported(
    empty_service: Service, page: Page, name: str
) -> None:
    service = empty_service
    orders = [fields(f"ORD-{n}", email="jane@x.org", total="10") for n in (1, 2, 3)]
    async with working(service, batch_size=1):
        await _publish(service, *orders, after=0)
    raw: Any = service.redis
    first, second, third = await out_stream(service)
    stream = service.config.changes_stream
    await raw.xdel(stream, second.id)
    for body in (first.body, third.body, first.body):
        await raw.xadd(stream, {"__data__": body})
    async with page.running(name) as (program, _):
        await _all_acknowledged(service)
        customer = json.loads(first.body)["subject"]
        assert _changes(program) == [(customer, 1, "new"), (customer, 3, "vip")]
        assert f"{customer} missed 2 to 2" in program.lines


@pytest.mark.parametrize("name", SUBSCRIBERS)
async def test_no_change_is_handled_twice_when_redis_comes_back_empty(
    empty_service: Service, page: Page, name: str
) -> None:
    service = empty_service
    raw: Any = service.redis
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(working(service))
        await _publish(service, fields("ORD-1", email="jane@x.org"), after=0)
        programs = [(await stack.enter_async_context(page.running(name)))[0]]
        await _all_acknowledged(service)
        await raw.flushall()
        if "faststream" in name:  # its process ends when the group is gone
            assert await asyncio.wait_for(programs[0].process.wait(), SECONDS) == 0
            programs.append((await stack.enter_async_context(page.running(name)))[0])
        await service.publish(fields("ORD-2", email="john@x.org"))

        async def both_handled() -> bool:
            return len(_changes(*programs)) >= 2

        await until(both_handled, SECONDS)
        await _all_acknowledged(service)
        assert [change[1:] for change in _changes(*programs)] == [(1, "new"), (1, "new")]


@pytest.mark.parametrize("name", SUBSCRIBERS)
async def test_a_customer_who_is_gone_stays_gone_for_every_subscriber(
    empty_service: Service, page: Page, name: str
) -> None:
    service = empty_service
    raw: Any = service.redis
    orders = [fields(f"ORD-{n}", email=f"{who}@x.org") for n, who in enumerate(("jane", "john"))]
    async with working(service, batch_size=1):
        await _publish(service, *orders, after=0)
        jane, john = await service.rows("SELECT id FROM customers ORDER BY id")
        async with service.engine.begin() as connection:
            await editing.delete(connection, "test", jane["id"])
        await all_published(service)
    gone, stays = f"CUST-{jane['id']}", f"CUST-{john['id']}"
    removals = service.config.removals_stream
    (removal,) = await out_stream(service, removals)

    # The subscriber is killed before it has acknowledged the removal, and another one goes on.
    async with page.running(name, hold=b"XACK") as (first, line):

        async def is_held() -> bool:
            return line.held

        await until(is_held, SECONDS)
    async with page.running(name) as (second, _):

        async def both_handled() -> bool:
            lines = [*first.lines, *second.lines]
            return f"{gone} is gone" in lines and any(it.startswith(f"{stays} 1") for it in lines)

        await until(both_handled, SECONDS)
        await _all_acknowledged(service)
        change = json.loads((await out_stream(service))[0].body)
        change["id"], change["data"]["sequence"] = f"{gone}:2", 2
        late = json.dumps(change, separators=(",", ":"))
        await raw.xadd(service.config.changes_stream, {"__data__": late})
        await raw.xadd(removals, {"__data__": removal.body})
        await _all_acknowledged(service)

        async def removals_acknowledged() -> bool:
            (group,) = [redis_client.texts(it) for it in await raw.xinfo_groups(removals)]
            last = redis_client.texts(await raw.xinfo_stream(removals))["last-generated-id"]
            return (group["last-delivered-id"], group["pending"]) == (last, 0)

        await until(removals_acknowledged, SECONDS)
    lines = [*first.lines, *second.lines]
    assert lines.count(f"{gone} is gone") == 1
    assert not [line for line in lines if line.startswith(f"{gone} 2") or "missed" in line]
