"""PostgreSQL and Python show the same time in the store's zone, or a worker says so."""

from datetime import UTC, datetime, timedelta
from importlib.resources import files
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from consumers import chores
from service.db.store_clock import StoreClock, first_difference, read_store_clock
from tests.conftest import Service

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
_STAYS_IN_WINTER = "Africa/Algiers"  # all year, it has the time that Berlin has in winter


def zone_with_rules_of(rules: str, name: str) -> ZoneInfo:
    """Return a zone whose rules are not those that PostgreSQL has for its name."""
    with files("tzdata.zoneinfo").joinpath(*rules.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


async def test_the_first_moment_of_another_time_is_found(service: Service) -> None:
    async with service.engine.connect() as connection:
        same = StoreClock(NOW, ZoneInfo("Europe/Berlin"))
        assert await first_difference(connection, same) is None
        other = StoreClock(NOW, zone_with_rules_of(_STAYS_IN_WINTER, "Europe/Berlin"))
        found = await first_difference(connection, other)
    summer = datetime(2025, 6, 1, 12, tzinfo=UTC)  # the first moment that is compared
    assert found == summer


async def test_a_difference_in_the_future_is_found(service: Service) -> None:
    """For example, a country is going to stop changing its clocks."""
    winter = datetime(2026, 1, 1, tzinfo=UTC)
    zone = zone_with_rules_of(_STAYS_IN_WINTER, "Europe/Berlin")
    begins = datetime(2026, 3, 29, 1, tzinfo=UTC)
    async with service.engine.connect() as connection:
        found = await first_difference(connection, StoreClock(winter + timedelta(days=300), zone))
    assert found is not None
    assert begins <= found < begins + timedelta(hours=6)


async def test_a_worker_warns_once(
    service: Service, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = chores.compare_clocks_step()
    await service.in_transaction(step)  # UTC, as any server shows it
    assert not caplog.records

    async def with_rules_of_another_age(connection: AsyncConnection) -> StoreClock:
        now = (await read_store_clock(connection)).now
        return StoreClock(now, zone_with_rules_of(_STAYS_IN_WINTER, "Europe/Berlin"))

    monkeypatch.setattr(chores, "read_store_clock", with_rules_of_another_age)
    for _ in range(2):
        await service.in_transaction(step)
    (warning,) = caplog.records
    assert "do not show the same time in Europe/Berlin" in warning.getMessage()
