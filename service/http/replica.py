"""The read replica answers lists and figures, which may be a little behind.

When it is away or too far behind, the primary answers in its place.
"""

import asyncio
import logging
from contextlib import AsyncExitStack
from typing import NamedTuple

from prometheus_client import Counter, Gauge
from prometheus_client.registry import Collector
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from service.db.engine import DATABASE_AWAY
from service.http.rate_limits import Clock

log = logging.getLogger(__name__)

_PATIENCE_SECONDS = 2.0
_AWAY_SECONDS = 5.0
"""How long nobody asks it again after it was away or too far behind."""

# A replica misses nothing that was committed before the last transaction that it replayed. Workers
# commit every second or so, so that transaction is recent while it follows. With no worker running
# nothing new is written, and the true lag is smaller than this says.
# A server that is not in recovery is the primary itself, or a replica that was promoted by mistake
# and never learns anything new. The time of the workers' last commits tells the two apart.
_LAG = text("""
SELECT EXTRACT(epoch FROM clock_timestamp() - CASE
  WHEN pg_is_in_recovery() THEN pg_last_xact_replay_timestamp()
  ELSE (SELECT GREATEST(swept_until, (SELECT max(seen_at) FROM sightings)) FROM sweep)
END)
""")


class Aged(NamedTuple):
    """A snapshot of the replica, and by how many seconds it is behind at most."""

    connection: AsyncConnection
    lag: float


class Replica:
    """Where reads may go whose answer may be a little old; nowhere, without an engine."""

    def __init__(self, engine: AsyncEngine | None, most_lag: float, clock: Clock) -> None:
        """Connect at the first read. When it is more than ``most_lag`` s behind, it is not used."""
        self.engine = engine
        self.trouble: str | None = None
        """Why the primary answers in its place, as last seen; None while the replica answers."""
        self._most_lag = most_lag
        self._clock = clock
        self._ask_again_at = 0.0
        self._lag = Gauge(
            "crm_replica_lag_seconds",
            "How far the read replica may be behind, at most; NaN: it does not answer.",
            registry=None,
        )
        self._in_use = Gauge(
            "crm_replica_in_use",
            "1: reads go to the replica. 0: it does not answer or is too far behind.",
            registry=None,
        )
        self._fallbacks = Counter(
            "crm_replica_fallbacks",
            "Reads that the primary answered because the replica was of no use.",
            registry=None,
        )

    async def snapshot(self, stack: AsyncExitStack) -> Aged | None:
        """Enter a snapshot of the replica and return it, or None: then ask the primary."""
        if self.engine is None:
            return None
        if self.trouble is None or self._clock() >= self._ask_again_at:
            # One request finds out for all: while the replica hangs, only that one waits for it.
            self._ask_again_at = self._clock() + _AWAY_SECONDS
            async with AsyncExitStack() as attempt:
                aged, trouble = await self._look(self.engine, attempt)
                self._note(trouble)
                if aged and not trouble:
                    stack.push_async_exit(attempt.pop_all().__aexit__)
                    return aged
        self._fallbacks.inc()
        return None

    async def measured(self) -> tuple[Collector, ...]:
        """Return what `/metrics` shows of it; nothing without a replica."""
        if self.engine is None:
            return ()
        async with AsyncExitStack() as stack:
            aged, trouble = await self._look(self.engine, stack)
        self._lag.set(aged.lag if aged else float("nan"))
        self._in_use.set(trouble is None)
        return self._lag, self._in_use, self._fallbacks

    async def _look(
        self, engine: AsyncEngine, stack: AsyncExitStack
    ) -> tuple[Aged | None, str | None]:
        """Return a snapshot if it answers, and why it cannot be used if it cannot."""
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                pooled = await stack.enter_async_context(engine.connect())
                connection = await pooled.execution_options(isolation_level="REPEATABLE READ")
                lag = await connection.scalar(_LAG)
        except DATABASE_AWAY as error:
            return None, f"it does not answer ({type(error).__name__})"
        if lag is None:
            return None, "it has just started, and does not know how old its data are"
        aged = Aged(connection, max(0.0, float(lag)))
        if aged.lag > self._most_lag:
            return aged, f"it may be {aged.lag:.0f} s behind"
        return aged, None

    def _note(self, trouble: str | None) -> None:
        if trouble and not self.trouble:
            log.warning("the primary answers for the read replica: %s", trouble)
        if self.trouble and not trouble:
            log.info("the read replica answers again")
        self.trouble = trouble
