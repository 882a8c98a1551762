"""``crm replay`` makes workers read orders again from a given place; no result changes."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.conftest import Service
from tests.events import fields
from tests.integration.cli.conftest import Crm
from tests.integration.worker.scene import all_applied, backlog, totals, working


@pytest.fixture
def run(service: Service, tmp_path: Path) -> Crm:
    """Return the command."""
    return Crm(service.servers, tmp_path)


async def _applied(service: Service, orders: int) -> None:
    for number in range(orders):
        await service.publish(fields(f"ORD-{number}", email=f"{number}@example.org"))
    async with working(service):
        await all_applied(service, orders)


async def test_all_entries_are_read_again_while_a_worker_reads(service: Service, run: Crm) -> None:
    await _applied(service, 4)
    async with working(service):
        told = await run("replay", "--all")
        assert told.status == 0, told.err
        assert "4 entries after 0-0" in told.out
        await all_applied(service, 8)
    counted = await totals(service)
    assert (counted.applied, counted.duplicate) == (4, 4)
    assert (await backlog(service)).lag == 0


async def test_entries_since_a_moment_are_read_again(
    service: Service, run: Crm, now: datetime
) -> None:
    await _applied(service, 3)
    for moment, entries in ((now + timedelta(hours=1), 0), (now - timedelta(hours=1), 3)):
        told = await run("replay", "--since", moment.isoformat())
        assert told.status == 0, told.err
        assert f"{entries} entries" in told.out
        assert (await backlog(service)).lag == entries


async def test_replay_says_that_trimmed_entries_are_gone(service: Service, run: Crm) -> None:
    await _applied(service, 3)
    await service.redis.xtrim(service.config.orders_stream, maxlen=1, approximate=False)
    told = await run("replay", "--since", "2026-01-01T00:00:00Z")
    assert "1 entry" in told.out
    assert "must come from order management" in told.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--since", "yesterday"], "yesterday is not a time"),
        (["--since", "2026-11-22T10:00:00"], "with an offset"),
        (["--since", "2026-11-22T10:00:00Z", "--all"], "exclude each other"),
        ([], "use --since or --all"),
    ],
)
async def test_wrong_arguments_are_explained_in_a_sentence(
    run: Crm, arguments: list[str], said: str
) -> None:
    told = await run("replay", *arguments)
    assert told.status == 1
    assert said in told.err
