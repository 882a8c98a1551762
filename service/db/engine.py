"""Connections to Postgres, and which of its errors pass by themselves."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar, TypeVarTuple

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

_REPEATABLE = {"40P01", "40001"}  # deadlock detected, serialization failure
_ATTEMPTS = 20

TRANSACTION_SECONDS = 60
"""No transaction that judges customers lives longer (`transaction_timeout`): the sweeper relies on
it."""

SCAN_SECONDS = 3600
"""How long one may that reads everything there is, of the largest shop. No longer: its snapshot
keeps vacuum from cleaning up behind the orders."""

IDLE_SECONDS = 15
"""How long a worker or a web process may do nothing within a transaction. One that hangs, or that
a cut network has taken away, holds locks that everybody waits for. Longer than one call to Redis
within a transaction may take (10)."""

DATABASE_AWAY = (DBAPIError, PoolTimeoutError, OSError, TimeoutError)
"""What talking to Postgres may raise when Postgres, or the way to it, is at fault."""

_GONE = {
    # In the middle of a statement, or queueing for a lock, the server does not look by itself.
    "client_connection_check_interval": "2s",
    # Behind a network that was cut nobody hangs up: the relay's lock would be held for hours.
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "20s",
}
"""By these the server notices in time that we are not there any more."""

BY_INDEX = {
    # Planning the batch statement takes as long as running it for 200 events, and its parameters
    # are opaque to the planner: one plan is as good as another.
    "plan_cache_mode": "force_generic_plan",
    # A batch touches a thousand rows of tables that may have millions. The planner, who cannot
    # count the batch, takes small tables whole, and goes on doing so while they grow.
    "enable_seqscan": "off",
    # Each row is looked for once: remembering it for a second time is for nothing.
    "enable_memoize": "off",
}
"""Settings for connections that apply batches."""


def create_engine(
    url: str,
    *,
    application: str,
    pool_size: int = 5,
    planner: Mapping[str, str] | None = None,
    idle_seconds: int = TRANSACTION_SECONDS,
    transaction_seconds: int = TRANSACTION_SECONDS,
) -> AsyncEngine:
    """Make a pool that survives the server's restarts and never waits for ever.

    ``application`` is what `pg_stat_activity` shows, ``planner`` settings of its connections. The
    server ends a transaction in which nothing is asked for ``idle_seconds``, and each after
    ``transaction_seconds``.
    """
    return create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_pre_ping=True,
        pool_use_lifo=True,  # the same connection again, whose statements are prepared
        pool_timeout=10,
        hide_parameters=True,  # of statements, in errors: there are people's names in them
        connect_args={
            "timeout": 5,
            "command_timeout": transaction_seconds,
            "server_settings": {
                "application_name": application,
                "timezone": "UTC",
                "transaction_timeout": f"{transaction_seconds}s",
                "idle_in_transaction_session_timeout": f"{idle_seconds}s",
                **_GONE,
                "jit": "off",  # compiling these statements costs more than it saves
                "random_page_cost": "1.1",  # pages are cached, or on flash
                **(planner or {}),
            },
        },
    )


async def end_within(connection: AsyncConnection, seconds: int) -> None:
    """Have the server end this transaction after so many seconds, whatever its connection says.

    A limit that runs cannot be moved, only ended and begun anew.
    """
    for limit in (0, seconds):
        await connection.execute(text(f"SET LOCAL transaction_timeout = '{limit}s'"))


def sqlstate(error: BaseException) -> str:
    """Give the five-character SQLSTATE of a database error; empty when there is none."""
    if isinstance(error, DBAPIError):
        return str(getattr(error.orig, "sqlstate", None) or "")
    return ""


def refused_data(error: BaseException) -> bool:
    """Tell whether the statement's data was refused, so that the same data will be again.

    True for data exceptions (class 22), violated constraints (class 23) and values that the
    driver cannot encode. Everything else is the world's fault and may pass.
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
    again: tuple[type[Exception], ...] = (),
) -> T:
    """Run ``work(connection, *args)`` in a transaction and return what it returns.

    After a deadlock or a serialization failure it runs again, in a new transaction. ``again``
    names further errors after which that is worth trying. Raises the last error once
    ``attempts`` are used up.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            async with engine.begin() as connection:
                return await work(connection, *args)
        except Exception as error:
            repeatable = isinstance(error, again) or sqlstate(error) in _REPEATABLE
            if not repeatable or attempt == _ATTEMPTS:
                raise
            await asyncio.sleep(random.uniform(0, 0.01 * 2 ** min(attempt, 6)))
    raise AssertionError
