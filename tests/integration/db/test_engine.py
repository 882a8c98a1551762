"""The server soon ends the transaction of a client that hangs or is gone, which frees its locks."""

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
    created = create_engine(service.config.database_url or "", application=_NAME, idle_seconds=2)
    yield created
    await created.dispose()


async def test_locks_of_a_hanging_transaction_are_released(
    service: Service, engine: AsyncEngine
) -> None:
    """For example, a worker is stopped between two statements, or the network to it is cut."""
    assert IDLE_SECONDS < TRANSACTION_SECONDS
    async with engine.connect() as hanging:
        await hanging.execute(_LOCK)
        async with asyncio.timeout(TRANSACTION_SECONDS / 2), service.engine.begin() as other:
            assert (await other.execute(_LOCK)).all()
        with pytest.raises(DBAPIError):
            await hanging.execute(text("SELECT 1"))
        await hanging.invalidate()


async def test_a_session_whose_client_is_gone_leaves_the_wait_for_lock(
    service: Service, engine: AsyncEngine
) -> None:
    """Otherwise it would get the lock, when its turn comes, before the server notices."""

    async def has_session(waiting_for: str | None = None) -> bool:
        rows = await service.rows(_SESSIONS, name=_NAME)
        return bool(rows) and (not waiting_for or rows[0]["wait_event_type"] == waiting_for)

    async with service.engine.connect() as holder:
        await holder.execute(_LOCK)
        async with engine.connect() as queueing:
            task = asyncio.create_task(_wait_for_lock(queueing))
            await until(lambda: has_session("Lock"))
            driver: Any = (await queueing.get_raw_connection()).driver_connection
            driver._transport.abort()
            await task
            await queueing.invalidate()

        async def is_gone() -> bool:
            return not await has_session()

        await until(is_gone, TRANSACTION_SECONDS / 2)


async def _wait_for_lock(connection: AsyncConnection) -> None:
    with pytest.raises(DBAPIError):
        await connection.execute(_LOCK)


async def test_pooled_connections_that_the_server_has_closed_are_replaced(
    service: Service, engine: AsyncEngine
) -> None:
    """As after a restart of the server. Nobody sees an error."""
    async with engine.connect() as one, engine.connect() as other:
        drivers: list[Any] = [
            (await each.get_raw_connection()).driver_connection for each in (one, other)
        ]
    await service.rows(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = :name",
        name=_NAME,
    )

    async def are_closed() -> bool:
        return all(driver.is_closed() for driver in drivers)

    await until(are_closed)
    async with engine.connect() as one, engine.connect() as other:
        for connection in (one, other):
            assert (await connection.execute(text("SELECT 1"))).scalar_one() == 1


async def test_a_transaction_ends_at_its_own_limit(service: Service) -> None:
    async def sleep(seconds: float, limit: int) -> None:
        engine = create_engine(
            service.config.database_url or "", application=_NAME, transaction_seconds=limit
        )
        try:
            async with engine.connect() as connection:
                await connection.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": seconds})
        finally:
            await engine.dispose()

    await sleep(1.2, limit=SCAN_SECONDS)
    with pytest.raises((DBAPIError, TimeoutError)):
        await sleep(1.2, limit=1)


async def test_the_server_probes_a_silent_client_in_time(engine: AsyncEngine) -> None:
    """A cut network closes no connection. One machine cannot simulate it, so check the settings."""
    async with engine.connect() as connection:
        if (await connection.execute(text("SELECT inet_client_addr() IS NULL"))).scalar_one():
            pytest.skip("this is no TCP connection")
        seconds = (
            await connection.execute(
                text("""
                SELECT CAST(current_setting('tcp_keepalives_idle') AS integer)
                  + CAST(current_setting('tcp_keepalives_interval') AS integer)
                  * CAST(current_setting('tcp_keepalives_count') AS integer)
                """)
            )
        ).scalar_one()
    assert 0 < seconds < TRANSACTION_SECONDS / 2
