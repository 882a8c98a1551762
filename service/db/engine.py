"""Connections to Postgres, transactions that are retried, and the kinds of its errors."""

import asyncio
import random
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar, TypeVarTuple

import asyncpg
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError, InvalidatePoolError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from service.server_urls import parse_postgres_url

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

_DIALECT = "postgresql+asyncpg://"
"""All that SQLAlchemy is told. It would take the parameters of a URL for arguments of asyncpg."""
_CONNECT_SECONDS = 5.0
_RETRYABLE = {"40P01", "40001"}  # deadlock detected, serialization failure
_ATTEMPTS = 20

TRANSACTION_SECONDS = 60
"""The longest time of a transaction that judges customers (`transaction_timeout`). The sweeper
relies on it."""

SCAN_SECONDS = 3600
"""The longest time of a transaction that reads whole tables, enough for the largest shop. It is
bounded because its snapshot keeps vacuum from removing the row versions that new orders leave."""

IDLE_SECONDS = 15
"""How long a worker or a web process may do nothing within a transaction. A process that hangs, or
that a cut network separates from the server, holds locks that everybody waits for. It must be
longer than a call to Redis within a transaction may take (10 seconds)."""

DATABASE_AWAY = (DBAPIError, PoolTimeoutError, OSError, TimeoutError)
"""The errors that are raised when Postgres, or the network on the way to it, is at fault."""

_LOST_CLIENT = {
    # By default, the server does not check its client while a statement runs or waits for a lock.
    "client_connection_check_interval": "2s",
    # A cut network closes no connection. Without these, the relay's lock would be held for hours.
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "20s",
}
"""Settings by which the server notices in time that its client is gone."""

BY_INDEX = {
    # Planning the batch statement takes as long as running it for 200 events. The planner cannot
    # see into the parameters, so a new plan for each batch would not be better.
    "plan_cache_mode": "force_generic_plan",
    # A batch touches a thousand rows of tables that may have millions. The planner does not know
    # the size of a batch. It scans small tables whole, and keeps that plan while they grow.
    "enable_seqscan": "off",
    # Each row is looked up once, so a cache of rows already looked up (Memoize) is wasted work.
    "enable_memoize": "off",
}
"""Planner settings for connections that apply batches."""


def create_engine(
    url: str,
    *,
    application: str,
    pool_size: int = 5,
    planner: Mapping[str, str] | None = None,
    idle_seconds: int = TRANSACTION_SECONDS,
    transaction_seconds: int = TRANSACTION_SECONDS,
) -> AsyncEngine:
    """Create a pool of connections that survives restarts of the server and never waits for ever.

    ``url`` may have parameters, which mean what they mean to libpq. Raises ValueError if it is
    wrong. `pg_stat_activity` shows ``application``, unless the URL has a name. ``planner`` has more
    settings for the connections. The server ends every transaction after ``transaction_seconds``,
    and one in which no statement arrives after ``idle_seconds``.
    """
    settings = {
        "timezone": "UTC",
        "transaction_timeout": f"{transaction_seconds}s",
        "idle_in_transaction_session_timeout": f"{idle_seconds}s",
        **_LOST_CLIENT,
        "jit": "off",  # compiling these statements costs more than it saves
        "random_page_cost": "1.1",  # pages are in the cache or on flash
        # This release writes `identifiers` and `orders.counts`. For earlier ones, triggers do.
        "crm.identifiers": "written",
        # It also writes what searches read whenever an identifier or an address changes.
        "crm.search": "written",
        **(planner or {}),
    }
    engine = create_async_engine(
        _DIALECT,
        async_creator=_connector(url, application, settings, transaction_seconds),
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_use_lifo=True,  # the connection used last: it has prepared the statements
        pool_timeout=10,
        hide_parameters=True,  # in error messages: parameters have people's names in them
    )
    event.listen(engine.sync_engine, "checkout", _replace_if_closed)
    return engine


def _replace_if_closed(connection: Any, _record: object, _proxy: object) -> None:
    """Have the pool open another connection if the server or the network has closed this one.

    The driver has noticed that, so nobody asks the server. `pool_pre_ping` would take three round
    trips, and a whole batch takes five. It would not notice more: if the network is cut, it waits.
    """
    if connection.driver_connection.is_closed():
        raise InvalidatePoolError


def create_patient_engine(url: str, *, application: str) -> AsyncEngine:
    """Create an engine without a pool and without time limits, for statements that take hours."""
    return create_async_engine(
        _DIALECT, async_creator=_connector(url, application, {}, None), poolclass=NullPool
    )


def _connector(
    url: str, application: str, settings: Mapping[str, str], command_seconds: float | None
) -> Callable[[], Awaitable[Any]]:
    """Return a function that opens a connection. ``settings`` win over those in the URL."""
    target = parse_postgres_url(url)
    server_settings = {"application_name": target.application_name or application, **settings}

    async def connect() -> Any:
        return await asyncpg.connect(
            target.dsn,
            ssl=ssl.create_default_context() if target.system_authorities else None,
            timeout=target.connect_timeout or _CONNECT_SECONDS,
            command_timeout=command_seconds,
            server_settings=server_settings,
        )

    return connect


async def limit_transaction(connection: AsyncConnection, seconds: int) -> None:
    """Have the server end this transaction after ``seconds``, instead of its connection's limit."""
    # Postgres does not move a limit that is running. It must be switched off and set again.
    for limit in (0, seconds):
        await connection.execute(text(f"SET LOCAL transaction_timeout = '{limit}s'"))


def sqlstate(error: BaseException) -> str:
    """Return the five-character SQLSTATE of a database error; an empty text if it has none."""
    if isinstance(error, DBAPIError):
        return str(getattr(error.orig, "sqlstate", None) or "")
    return ""


def refused_data(error: BaseException) -> bool:
    """Return whether the database refused the data, so that a retry would fail again.

    True for data exceptions (class 22), violated constraints (class 23) and values that the driver
    cannot encode. Any other error has causes outside the data, and a retry may succeed.
    """
    state = sqlstate(error)
    if state:
        return state[:2] in {"22", "23"}
    return isinstance(error, DBAPIError) and isinstance(
        getattr(error.orig, "__cause__", None), ValueError | OverflowError | TypeError
    )


async def in_transaction(
    engine: AsyncEngine,
    work: Callable[[AsyncConnection, *Arguments], Awaitable[T]],
    *args: *Arguments,
    retry_on: tuple[type[Exception], ...] = (),
    dry_run: bool = False,
) -> T:
    """Run ``work(connection, *args)`` in a transaction and return its result.

    After a deadlock, a serialization failure or an error of ``retry_on`` it runs again, in a new
    transaction. After `_ATTEMPTS` attempts the error is raised. With ``dry_run``, what it wrote is
    undone. A preview that is made this way cannot differ from the act.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            async with engine.begin() as connection:
                if dry_run:
                    return await _undone(connection, work, *args)
                return await work(connection, *args)
        except Exception as error:
            retryable = isinstance(error, retry_on) or sqlstate(error) in _RETRYABLE
            if not retryable or attempt == _ATTEMPTS:
                raise
            await asyncio.sleep(random.uniform(0, 0.01 * 2 ** min(attempt, 6)))
    raise AssertionError


async def _undone(
    connection: AsyncConnection,
    work: Callable[[AsyncConnection, *Arguments], Awaitable[T]],
    *args: *Arguments,
) -> T:
    """Run ``work(connection, *args)``, undo what it wrote, and return its result."""
    savepoint = await connection.begin_nested()
    try:
        return await work(connection, *args)
    finally:
        await savepoint.rollback()
