"""A caller with as much slow work under way as it may have is refused; others are served."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import httpx
import pytest
from sqlalchemy import text

from service.core.scopes import Scope
from service.http.budgets import EXPORTS, PREVIEWS, STATISTICS, Budgets, Work
from service.http.problems import ProblemError
from tests.conftest import Service
from tests.integration.http.auth.conftest import Key, Web, assert_problem, serve
from tests.wait import until


class Slow(NamedTuple):
    """A request for such work, and the table without which it does not get on."""

    work: Work
    method: str
    path: str
    table: str
    body: dict[str, Any] | None = None

    async def ask(self, web: Web, key: Key) -> httpx.Response:
        return await web.http.request(self.method, self.path, json=self.body, headers=key.headers)


CUSTOMERS = "/api/v1/customers"
SLOW = {
    "statistics": Slow(STATISTICS, "GET", "/api/v1/statistics", "segment_counters"),
    "segments": Slow(STATISTICS, "GET", "/api/v1/statistics/ltv", "segment_counters"),
    "preview": Slow(PREVIEWS, "POST", "/api/v1/settings/preview", "settings", {"atRiskDays": 45}),
    "export": Slow(EXPORTS, "GET", f"{CUSTOMERS}/export.csv", "customers"),
    "posted export": Slow(EXPORTS, "POST", f"{CUSTOMERS}/export.csv", "customers", {"search": "a"}),
}


@asynccontextmanager
async def locked(service: Service, table: str) -> AsyncIterator[None]:
    """Keep everybody else from reading a table."""
    async with service.engine.begin() as connection:
        await connection.execute(text(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
        yield


@pytest.mark.parametrize("name", SLOW)
async def test_a_caller_whose_budget_is_spent_is_refused_and_no_other(
    empty_service: Service, name: str
) -> None:
    slow = SLOW[name]
    work = slow.work
    async with serve(empty_service) as web:
        keys = [await web.key(Scope.READ, Scope.EXPORT) for _ in range(2)]
        running = web.state.budgets.running
        async with asyncio.TaskGroup() as tasks:
            async with locked(empty_service, slow.table):
                asked = [tasks.create_task(slow.ask(web, keys[0])) for _ in range(50)]
                await until(lambda: _equals(sum(map(_done, asked)), 50 - work.each))
                refused, waiting = filter(_done, asked), [it for it in asked if not it.done()]
                # The table is locked still, so those who got an answer asked the database nothing.
                for task in refused:
                    answer = task.result()
                    assert_problem(answer, 429, f"{work.each} {work.name} already")
                    assert answer.headers["retry-after"] == str(work.wait)
                assert running(work) == work.each
                others = work.all - work.each
                waiting += [
                    tasks.create_task(slow.ask(web, keys[1])) for _ in range(min(others, work.each))
                ]
                await until(lambda: _equals(running(work), min(work.all, 2 * work.each)))
            served = [await task for task in waiting]
            assert {answer.status_code for answer in served} == {200}
        assert running(work) == 0
        assert (await slow.ask(web, keys[0])).status_code == 200


def _done(task: asyncio.Task[httpx.Response]) -> bool:
    return task.done()


async def _equals(one: object, other: object) -> bool:
    return one == other


def test_all_callers_together_have_a_limit_of_their_own() -> None:
    budgets, work = Budgets(), Work("reports", each=1, all=2, wait=3)
    with budgets.spend(work, "a"), budgets.spend(work, "b"):
        with pytest.raises(ProblemError) as mine, budgets.spend(work, "a"):
            pass
        with pytest.raises(ProblemError) as everybodys, budgets.spend(work, "c"):
            pass
    assert (mine.value.problem.status, everybodys.value.problem.status) == (429, 503)
    assert mine.value.headers == everybodys.value.headers == {"Retry-After": "3"}
    with budgets.spend(work, "c"):
        pass
    assert not budgets._running


async def test_a_user_has_one_budget_in_all_browsers_and_a_key_another(
    empty_service: Service,
) -> None:
    """Signed out, and in local mode, an address has one."""
    async with serve(empty_service) as web:
        spend = web.state.budgets.spend
        with spend(PREVIEWS, "127.0.0.1"), spend(PREVIEWS, "127.0.0.1"):
            slow = SLOW["preview"]
            answer = await web.http.post(slow.path, json=slow.body)
            assert_problem(answer, 429, "2 previews of settings already")
            key = await web.key(Scope.READ)
            assert (await slow.ask(web, key)).status_code == 200
