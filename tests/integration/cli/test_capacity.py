"""The figures behind `crm capacity`, compared with what is measured here."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.core import capacity
from tests.bench.capacity import images, of_images, sizes
from tests.conftest import Service
from tests.integration.cli.conftest import Crm
from tests.processes import Processes, processes

_EVENTS = 80_000
_CUSTOMERS = 60_000
_NEAR = 0.25
"""Small tables have room to spare. They were measured to come closer as they grow."""


@pytest.fixture
async def crm_processes(empty_service: Service, tmp_path: Path) -> AsyncIterator[Processes]:
    """Start processes on the service's servers."""
    async with processes(empty_service.servers, tmp_path) as started:
        yield started


@pytest.mark.timeout(600)
async def test_bytes_are_near_those_measured(service: Service, crm_processes: Processes) -> None:
    measured = await sizes(service, crm_processes, _EVENTS, _CUSTOMERS)
    assert measured.pop("connections") <= capacity.CONNECTIONS_PER_PROCESS
    expected = capacity.BYTES._asdict()
    assert measured.keys() == expected.keys() - {"images", "compressed_images"}
    for what, size in measured.items():
        assert size == pytest.approx(expected[what], rel=_NEAR), measured


@pytest.mark.timeout(600)
async def test_page_images_are_near_those_measured(
    empty_service: Service, crm_processes: Processes
) -> None:
    more = await images(empty_service, crm_processes, 40_000, 1500)
    if more is None:
        pytest.skip("these servers let us make no checkpoint")
    expected = getattr(capacity.BYTES, await of_images(empty_service))
    assert more == pytest.approx(expected, rel=_NEAR)


async def test_the_command_adds_up_the_figures(crm: Crm) -> None:
    shop = ("capacity", "--customers", "1000000", "--orders-per-day", "86400")
    ended = await crm(*shop, "--peak", "20", "--outage", "30", "--json")
    assert ended.status == 0, ended.err
    needs = ended.document
    assert needs["peakEventsPerSecond"] == pytest.approx(80)
    assert needs["backlogEntries"] == 144_000
    assert needs["catchUpSeconds"] == pytest.approx(144_000 / (capacity.RATE - 80))
    assert needs["workers"] == 2
    size = capacity.BYTES
    orders = 86_400 * 365 * 3
    assert needs["databaseBytes"] == pytest.approx(
        1_000_000 * size.customer + orders * (size.order + size.change)
    )
    assert needs["sharedBuffersBytes"] == pytest.approx(4 * 1_000_000 * size.customer_row)
    assert needs["walBytesPerDay"] == pytest.approx(
        86_400 * 4 * (size.wal + size.compressed_images)
    )
    without = (await crm(*shop, "--no-wal-compression", "--json")).document
    assert without["walBytesPerDay"] == pytest.approx(86_400 * 4 * (size.wal + size.images))
    assert needs["redisBytes"] == pytest.approx(
        (144_000 + 250_000) * size.redis + 250_000 * (size.published + size.removal)
    )
    tiny = ("capacity", "--customers", "10", "--orders-per-day", "1000000", "--years", "0")
    small = (await crm(*tiny, "--json")).document
    assert small["walBytesPerDay"] == pytest.approx(
        4_000_000 * size.wal + 10 * size.customer * capacity.CHECKPOINTS
    )
    assert small["redisBytes"] == pytest.approx(
        (small["backlogEntries"] + 250_000) * size.redis
        + 250_000 * size.published
        + 10 * size.removal
    )
    plain = await crm(*shop, "--peak", "10000")
    assert plain.status == 0, plain.err
    assert "never, while the peak lasts" in plain.out
    assert "was not measured on one PostgreSQL" in plain.out
