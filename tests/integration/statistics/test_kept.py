"""What is kept by day, and the answers that workers keep."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.chores import ANSWERS, renew_answer
from service.core.segment_rules import Segment
from service.db.customers import editing
from service.db.engine import in_transaction
from service.db.figures import Figures, SegmentFigures
from service.db.statistics import answer_cache
from service.db.statistics.daily import Total, figures_at, read_totals
from tests.conftest import Service
from tests.events import entry

URL = "/api/v1/statistics"
DAY = timedelta(days=1)


async def at(service: Service, day: date) -> Figures | None:
    async with service.engine.connect() as connection:
        found = await figures_at(connection, day)
    return found and {segment: figures for segment, figures in found.items() if any(figures)}


async def totals(service: Service, first: date) -> dict[date, Total]:
    async with service.engine.connect() as connection:
        return await read_totals(connection, first)


async def test_figures_are_told_as_they_were_when_a_day_ended(
    service: Service, now: datetime
) -> None:
    noon = datetime(now.year, now.month, now.day, 12, tzinfo=UTC) - 3 * DAY
    assert await at(service, noon.date()) is None
    await service.ingest(entry("A-1", email="a@x.org", total="10", created=noon), now=noon)
    await service.ingest(entry("B-1", email="b@x.org", total="600", created=noon), now=noon)
    late = datetime.combine((noon + DAY).date(), datetime.min.time(), UTC)
    # To the microsecond: the first belongs to the day that ends, the second to the one that begins.
    tick = timedelta(microseconds=1)
    await service.ingest(entry("A-2", email="a@x.org", total="5", created=noon), now=late - tick)
    await service.ingest(entry("A-3", email="a@x.org", total="2", created=noon), now=late)
    first, second = noon.date(), (noon + DAY).date()
    vip = SegmentFigures(1, Decimal(600), 1, 0)
    assert await at(service, first - DAY) is None
    assert await at(service, first) == {
        Segment.RETURNING: SegmentFigures(1, Decimal(15), 1, 1),
        Segment.VIP: vip,
    }
    assert await at(service, second) == {Segment.VIP: SegmentFigures(2, Decimal(617), 2, 1)}
    assert await at(service, second + DAY) == await at(service, second)
    (row,) = await service.rows("SELECT id FROM customers WHERE email_key = 'b@x.org'")
    async with service.engine.begin() as connection:
        await editing.delete(connection, "test", row["id"])
    assert (await at(service, second) or {})[Segment.VIP].customers == 2
    assert (await at(service, now.date() + DAY) or {})[Segment.VIP].customers == 1


async def test_totals_follow_orders_wherever_they_go(service: Service) -> None:
    may = datetime(2026, 5, 10, 12, tzinfo=UTC)
    await service.ingest(
        entry("A-1", email="a@x.org", total="10", created=may),
        entry("A-2", email="a@x.org", total="20", created=may + DAY),
        entry("N-1", total="7", created=may),
    )
    first, second = may.date(), (may + DAY).date()
    assert await totals(service, first) == {
        first: Total(1, 2, Decimal(17)),
        second: Total(0, 1, Decimal(20)),
    }
    # An older order comes late, one is cancelled, and one turns out to be of another day.
    await service.ingest(entry("A-0", email="a@x.org", total="1", created=may - DAY))
    await service.ingest(
        entry("A-1", email="a@x.org", version=2, total="10", created=may, status="cancelled"),
        entry("A-2", email="a@x.org", version=2, total="20", created=may + 2 * DAY),
    )
    shown = {day: it for day, it in (await totals(service, date.min)).items() if any(it)}
    assert shown == {
        first - DAY: Total(1, 1, Decimal(1)),
        first: Total(0, 1, Decimal(7)),
        second + DAY: Total(0, 1, Decimal(20)),
    }


async def keep_all(service: Service) -> None:
    while await in_transaction(service.engine, renew_answer) is not None:
        pass


async def answers(web: httpx.AsyncClient) -> list[dict[str, Any]]:
    return [
        (await web.get(f"{URL}{query}")).json()
        for query in ("?period=year", "/segments?period=year", "/cohorts?months=3", "/segments")
    ]


async def test_what_takes_long_is_given_as_it_was_kept(
    service: Service, web: httpx.AsyncClient, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, days in enumerate((0, 1, 40, 40, 80)):
        await service.ingest(
            entry(
                f"A-{number}",
                email=f"c{number % 3}@x.org",
                created=now - days * DAY - timedelta(minutes=5),
                total="12.34",
            )
        )
    live = await answers(web)
    monkeypatch.setattr(answer_cache, "SLOW", 0)
    monkeypatch.setattr(answer_cache, "_REUSE", 1_000_000)
    await keep_all(service)
    assert {row["name"] for row in await service.rows("SELECT name FROM kept_answers")} == set(
        ANSWERS
    )
    as_kept = await answers(web)
    moments = [answer.pop("asOf", None) for answer in as_kept]
    assert moments[1] is moments[3] is None
    assert as_kept == [{k: v for k, v in answer.items() if k != "asOf"} for answer in live]
    await service.ingest(entry("Z", email="z@x.org", created=now - DAY, total="99"))
    later = await answers(web)
    assert [answer.get("asOf") for answer in later[:3]] == moments[:3]
    assert later[0]["totalCustomers"] == live[0]["totalCustomers"]
    # What is quick is of this moment again.
    monkeypatch.setattr(answer_cache, "SLOW", 1000)
    assert (await answers(web))[0]["totalCustomers"] == live[0]["totalCustomers"] + 1


async def test_an_answer_is_renewed_when_it_is_due_and_by_one_at_a_time(service: Service) -> None:
    computed = 0

    async def compute(_connection: AsyncConnection, _now: datetime) -> int:
        nonlocal computed
        computed += 1
        return computed

    async def renew(connection: AsyncConnection) -> bool:
        return await answer_cache.renew(connection, {"x": compute})

    async with service.engine.begin() as busy:
        assert await renew(busy)
        assert not await in_transaction(service.engine, renew)
    await service.execute("UPDATE kept_answers SET seconds = 1")
    assert not await in_transaction(service.engine, renew)
    await service.execute("UPDATE kept_answers SET as_of = as_of - interval '100 seconds'")
    assert await in_transaction(service.engine, renew)
    assert computed == 2
