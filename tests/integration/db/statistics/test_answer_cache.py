"""Cached answers: read while computing takes long, renewed when due, by one worker at a time."""

from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.chores import ANSWERS, renew_answer_step
from service.db.engine import in_transaction
from service.db.statistics import answer_cache
from tests.conftest import Service
from tests.events import entry

URL = "/api/v1/statistics"
DAY = timedelta(days=1)


async def renew_all(service: Service) -> None:
    renew_answer = renew_answer_step()
    while await in_transaction(service.engine, renew_answer) is not None:
        pass


async def answers(web: httpx.AsyncClient) -> list[dict[str, Any]]:
    return [
        (await web.get(f"{URL}{query}")).json()
        for query in ("?period=year", "/segments?period=year", "/cohorts?months=3", "/segments")
    ]


async def test_a_slow_answer_is_read_from_the_cache_and_a_quick_one_is_computed(
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
    await renew_all(service)
    assert {row["name"] for row in await service.rows("SELECT name FROM kept_answers")} == set(
        ANSWERS
    )
    cached = await answers(web)
    computed_at = [answer.pop("asOf", None) for answer in cached]
    assert computed_at[1] is computed_at[3] is None
    assert cached == [
        {name: value for name, value in answer.items() if name != "asOf"} for answer in live
    ]
    await service.ingest(entry("Z", email="z@x.org", created=now - DAY, total="99"))
    later = await answers(web)
    assert [answer.get("asOf") for answer in later[:3]] == computed_at[:3]
    assert later[0]["totalCustomers"] == live[0]["totalCustomers"]
    # With this bound the answer is quick, so it is computed from the present state.
    monkeypatch.setattr(answer_cache, "SLOW", 1000)
    assert (await answers(web))[0]["totalCustomers"] == live[0]["totalCustomers"] + 1


async def test_an_answer_is_renewed_when_it_is_due_by_one_worker_at_a_time(
    service: Service,
) -> None:
    computed = 0

    async def compute(_connection: AsyncConnection, _now: datetime) -> int:
        nonlocal computed
        computed += 1
        return computed

    quick: dict[str, datetime] = {}

    async def renew(connection: AsyncConnection) -> bool:
        return await answer_cache.renew(connection, {"x": compute}, quick)

    async with service.engine.begin() as other:
        assert await renew(other)
        quick.clear()
        assert not await in_transaction(service.engine, renew)
    assert await service.rows("SELECT name FROM kept_answers") == [], "it was quick"
    await service.execute(
        "INSERT INTO kept_answers (name, as_of, seconds, answer) VALUES ('x', now(), 1, '7')"
    )
    assert not await in_transaction(service.engine, renew)
    await service.execute("UPDATE kept_answers SET as_of = as_of - interval '100 seconds'")
    assert await in_transaction(service.engine, renew)
    (row,) = await service.rows(
        "SELECT seconds < :slow AS quick, answer FROM kept_answers", slow=answer_cache.SLOW
    )
    assert row == {"quick": True, "answer": 2}, "nobody reads the slow answer any more"
    assert not await in_transaction(service.engine, renew)
    assert computed == 2
