"""The read replica: lists and figures, which may be a little behind, and who answers without it."""

import asyncio
import logging
from contextlib import AsyncExitStack
from typing import NamedTuple

from prometheus_client import Counter, Gauge
from prometheus_client.registry import Collector
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from service.db.engine import DATABASE_AWAY
from service.http.limits import Clock

log = logging.getLogger(__name__)

_PATIENCE = 2.0
_AWAY_SECONDS = 5.0
"""After it did not answer, nobody waits for it again for so long."""

# Of what was committed before the last transaction that it replayed, nothing is missing. Workers
# commit every second or so; without any, nothing new is missing either, however long ago that is.
_LAG = text("""
SELECT CASE WHEN pg_is_in_recovery()
  THEN EXTRACT(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) ELSE 0 END
""")


class Aged(NamedTuple):
    """A snapshot of the replica, and by how many seconds it may be behind, at most."""

    connection: AsyncConnection
    lag: float


class Replica:
    """Where reads may go that need not be of this moment; without an engine, nowhere."""

    def __init__(self, engine: AsyncEngine | None, clock: Clock) -> None:
        """Connect when it is first asked for."""
        self.engine = engine
        self._clock = clock
        self._away_until = 0.0
        self._lag = Gauge(
            "crm_replica_lag_seconds",
            "How far the read replica may be behind, at most; NaN: it does not answer.",
            registry=None,
        )
        self._fallbacks = Counter(
            "crm_replica_fallbacks",
            "Reads that the primary answered because the replica did not.",
            registry=None,
        )

    async def snapshot(self, stack: AsyncExitStack) -> Aged | None:
        """Enter a snapshot of the replica; None: ask the primary."""
        if self.engine is None:
            return None
        if self._clock() >= self._away_until:
            try:
                return await self._enter(self.engine, stack)
            except DATABASE_AWAY as error:
                log.warning("the read replica does not answer: %s", type(error).__name__)
                self._away_until = self._clock() + _AWAY_SECONDS
        self._fallbacks.inc()
        return None

    async def measured(self) -> tuple[Collector, ...]:
        """Give what `/metrics` tells of it; nothing when there is none."""
        if self.engine is None:
            return ()
        try:
            async with AsyncExitStack() as stack:
                aged = await self._enter(self.engine, stack)
            self._lag.set(aged.lag)
        except DATABASE_AWAY:
            self._lag.set(float("nan"))
        return self._lag, self._fallbacks

    @staticmethod
    async def _enter(engine: AsyncEngine, stack: AsyncExitStack) -> Aged:
        """Take one, or raise one of `DATABASE_AWAY`: also when it cannot tell how old it is."""
        async with AsyncExitStack() as attempt:
            async with asyncio.timeout(_PATIENCE):
                pooled = await attempt.enter_async_context(engine.connect())
                connection = await pooled.execution_options(isolation_level="REPEATABLE READ")
                lag = await connection.scalar(_LAG)
            if lag is None:  # it has just started, and replayed nothing yet
                raise TimeoutError
            stack.push_async_exit(attempt.pop_all().__aexit__)
        return Aged(connection, float(lag))
