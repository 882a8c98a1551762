"""A worker has a process of its own predict customers; numpy never comes into the worker."""

import asyncio
import contextlib
import os
import subprocess
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.outlook import FitCause
from service.db.outlook import due, models
from service.db.outlook.due import read_situation
from tests.conftest import Service
from tests.integration.db.outlook.shop import CUSTOMERS, open_shop
from tests.paths import ROOT
from tests.processes import Processes, environment
from tests.wait import PATIENCE, until

_WAITS = text("""
SELECT count(*) FROM pg_stat_activity
WHERE application_name = 'crm predictions' AND wait_event_type = 'Lock' AND query LIKE :query
""")
_CONNECTED = text(
    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'crm predictions'"
)


async def test_a_worker_has_customers_predicted(
    service: Service, crm: Processes, now: datetime
) -> None:
    await open_shop(service, Random(4), now)

    async def is_done() -> bool:
        async with service.engine.connect() as connection:
            situation = await read_situation(connection)
        return situation.completed_at is not None and not situation.busy

    worker = await crm.worker()
    await until(is_done)
    assert await _outlooks(service) == CUSTOMERS
    assert "fitted a model of 700 customers" in worker.output
    if sys.platform == "linux":
        assert "numpy" not in _loaded_by(worker.pid)


def _loaded_by(pid: int) -> str:
    """Return the libraries that a process has loaded."""
    return Path(f"/proc/{pid}/maps").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_the_model_brings_no_threads() -> None:
    """Those of OpenBLAS wait busily for each other, and a fit would take much longer."""
    count = "import os, service.insight.model; print(len(os.listdir('/proc/self/task')))"
    env = {name: value for name, value in os.environ.items() if "NUM_THREADS" not in name}
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", count], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout == "1\n"


async def test_of_two_replicas_one_predicts_and_the_other_leaves_it(
    service: Service, now: datetime
) -> None:
    await open_shop(service, Random(4), now)
    async with (
        # The first process waits for this, and has the lock meanwhile.
        _holding(service, "LOCK TABLE insight_models") as blocking,
        _predicting(service) as one,
        _predicting(service) as other,
    ):
        ends = {asyncio.create_task(process.wait()): process for process in (one, other)}
        done, waiting = await asyncio.wait(
            ends, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED
        )
        (left,) = done
        assert left.result() == 0
        await until(lambda: _is_true(service, _WAITS, query="%"))
        assert ends[next(iter(waiting))].returncode is None
        await blocking.rollback()
        assert await asyncio.wait_for(next(iter(waiting)), PATIENCE) == 0
    assert len(await service.rows("SELECT 1 FROM insight_models")) == 1
    assert await _outlooks(service) == CUSTOMERS


async def test_a_process_that_is_killed_leaves_nothing_half_done(
    service: Service, now: datetime
) -> None:
    await open_shop(service, Random(4), now)
    async with service.engine.begin() as connection:
        assert await due.ask_for_fit(connection)
    # It has written the model, and waits to note that the wish for it is granted.
    await _kill_where_it_waits(
        service, "SELECT FROM insight_refresh FOR UPDATE", "UPDATE insight_refresh%"
    )
    async with service.engine.connect() as connection:
        assert await models.newest(connection) is None
        assert (await read_situation(connection)).fit_wanted_at
    # The model is there now, and the first outlooks are about to be written.
    await _kill_where_it_waits(
        service, "LOCK TABLE customer_outlook IN SHARE MODE", "%INSERT INTO customer_outlook%"
    )
    async with service.engine.connect() as connection:
        model = await models.newest(connection)
        situation = await read_situation(connection)
    assert model is not None
    assert model.cause is FitCause.HAND
    assert situation.fit_wanted_at is None
    assert not situation.outlooks
    async with _predicting(service) as process:
        assert await asyncio.wait_for(process.wait(), PATIENCE) == 0
    assert await _outlooks(service) == CUSTOMERS
    async with service.engine.connect() as connection:
        assert await models.newest(connection) == model


async def _kill_where_it_waits(service: Service, lock: str, query: str) -> None:
    """Kill a process that predicts while it waits for a lock with a statement like ``query``."""
    async with _holding(service, lock), _predicting(service) as process:
        await until(lambda: _is_true(service, _WAITS, query=query))
        process.kill()
        await process.wait()
    # The database notices that its client is gone once the statement does not wait any more.
    await until(lambda: _is_true(service, _CONNECTED, wanted=0))


async def _is_true(service: Service, count: TextClause, wanted: int = 1, **parameters: str) -> bool:
    async with service.engine.connect() as connection:
        found = await connection.execute(count, parameters)
        return bool(found.scalar_one() == wanted)


async def _outlooks(service: Service) -> int:
    (row,) = await service.rows("SELECT count(*) AS n FROM customer_outlook")
    return int(row["n"])


@contextlib.asynccontextmanager
async def _holding(service: Service, lock: str) -> AsyncIterator[AsyncConnection]:
    async with service.engine.connect() as connection:
        await connection.execute(text(lock))
        yield connection


@contextlib.asynccontextmanager
async def _predicting(service: Service) -> AsyncIterator[Process]:
    """Start the process as a worker does; kill it in the end, if it still runs."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "service.predictions"),
        stdin=PIPE,
        env=environment(service.servers),
        cwd=ROOT,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
