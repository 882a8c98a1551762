"""Whoever hangs, or is gone, does not keep its locks: the server ends it long before a minute."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from service.db.engine import IDLE_SECONDS, SCAN_SECONDS, TRANSACTION_SECONDS, create_engine
from tests.conftest import Service
from tests.events import entry
from tests.wait import until

_LOCK = text("SELECT id FROM customers FOR NO KEY UPDATE")
_NAME = "crm test of engines"
_SESSIONS = "SELECT wait_event_type FROM pg_stat_activity WHERE application_name = :name"


@pytest.fixture
async def engine(service: Service) -> AsyncIterator[AsyncEngine]:
    await service.ingest(entry("ORD-1", email="ann@example.org"))
    made = create_engine(service.config.database_url or "", application=_NAME, idle_seconds=2)
    yield made
    await made.dispose()


async def test_locks_of_a_transaction_that_hangs_are_freed(
    service: Service, engine: AsyncEngine
) -> None:
    """As of a worker that is stopped, or that the network has taken away, between statements."""
    assert IDLE_SECONDS < TRANSACTION_SECONDS
    async with engine.connect() as hanging:
        await hanging.execute(_LOCK)
        async with asyncio.timeout(TRANSACTION_SECONDS / 2), service.engine.begin() as other:
            assert (await other.execute(_LOCK)).all()
        with pytest.raises(DBAPIError):
            await hanging.execute(text("SELECT 1"))
        await hanging.invalidate()


async def test_a_session_whose_client_is_gone_leaves_the_queue(
    service: Service, engine: AsyncEngine
) -> None:
    """It would get the lock, in its turn, before it found out."""

    async def sessions(waiting: str | None = None) -> bool:
        rows = await service.rows(_SESSIONS, name=_NAME)
        return bool(rows) and (not waiting or rows[0]["wait_event_type"] == waiting)

    async with service.engine.connect() as holder:
        await holder.execute(_LOCK)
        async with engine.connect() as queueing:
            task = asyncio.create_task(_queue(queueing))
            await until(lambda: sessions("Lock"))
            driver: Any = (await queueing.get_raw_connection()).driver_connection
            driver._transport.abort()
            await task
            await queueing.invalidate()

        async def is_gone() -> bool:
            return not await sessions()

        await until(is_gone, TRANSACTION_SECONDS / 2)


async def _queue(connection: AsyncConnection) -> None:
    with pytest.raises(DBAPIError):
        await connection.execute(_LOCK)


async def test_a_transaction_lives_as_long_as_it_may_and_no_longer(service: Service) -> None:
    async def sleep(seconds: float, of: int) -> None:
        engine = create_engine(
            service.config.database_url or "", application=_NAME, transaction_seconds=of
        )
        try:
            async with engine.connect() as connection:
                await connection.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": seconds})
        finally:
            await engine.dispose()

    await sleep(1.2, of=SCAN_SECONDS)
    with pytest.raises((DBAPIError, TimeoutError)):
        await sleep(1.2, of=1)


async def test_the_server_looks_whether_a_silent_client_is_there(engine: AsyncEngine) -> None:
    """Behind a cut network nobody hangs up; that itself cannot be had on one machine."""
    async with engine.connect() as connection:
        if (await connection.execute(text("SELECT inet_client_addr() IS NULL"))).scalar_one():
            pytest.skip("this is no TCP connection")
        row = (
            await connection.execute(
                text("""
                SELECT CAST(current_setting('tcp_keepalives_idle') AS integer)
                  + CAST(current_setting('tcp_keepalives_interval') AS integer)
                  * CAST(current_setting('tcp_keepalives_count') AS integer)
                """)
            )
        ).scalar_one()
    assert 0 < row < TRANSACTION_SECONDS / 2
