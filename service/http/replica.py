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
from service.http.rate_limits import Clock

log = logging.getLogger(__name__)

_PATIENCE = 2.0
_AWAY_SECONDS = 5.0
"""After it was of no use, nobody asks it again for so long."""

# Of what was committed before the last transaction that it replayed, nothing is missing. Workers
# commit every second or so; without any, nothing new is missing either, however long ago that is.
# A server that replays nothing is the primary itself, or was promoted by mistake and knows nothing
# new for ever: what the workers' last commits say of the time tells these two apart.
_LAG = text("""
SELECT EXTRACT(epoch FROM clock_timestamp() - CASE
  WHEN pg_is_in_recovery() THEN pg_last_xact_replay_timestamp()
  ELSE (SELECT GREATEST(swept_until, (SELECT max(seen_at) FROM sightings)) FROM sweep)
END)
""")


class Aged(NamedTuple):
    """A snapshot of the replica, and by how many seconds it may be behind, at most."""

    connection: AsyncConnection
    lag: float


class Replica:
    """Where reads may go that need not be of this moment; without an engine, nowhere."""

    def __init__(self, engine: AsyncEngine | None, most_lag: float, clock: Clock) -> None:
        """Connect when it is first asked for; ``most_lag`` seconds behind, it is not used."""
        self.engine = engine
        self.trouble: str | None = None
        """Why the primary answers in its stead, as last seen; None: it does not."""
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
        """Enter a snapshot of the replica; None: ask the primary."""
        if self.engine is None:
            return None
        if self.trouble is None or self._clock() >= self._ask_again_at:
            # One finds out for all: while it hangs, the others need not wait for it, too.
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
        """Give what `/metrics` tells of it; nothing when there is none."""
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
        """Enter a snapshot, if it answers; and say why it is of no use, if it is not."""
        try:
            async with asyncio.timeout(_PATIENCE):
                pooled = await stack.enter_async_context(engine.connect())
                connection = await pooled.execution_options(isolation_level="REPEATABLE READ")
                lag = await connection.scalar(_LAG)
        except DATABASE_AWAY as error:
            return None, f"it does not answer ({type(error).__name__})"
        if lag is None:
            return None, "it has just started, and cannot tell how old it is"
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
