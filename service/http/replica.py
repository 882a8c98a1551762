"""Read lists and figures from the replica, since they may be a little behind.

When the replica is away or too far behind, the primary answers in its place.
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
from service.server_trouble import why_away

log = logging.getLogger(__name__)

_TIMEOUT_SECONDS = 2.0
_RETRY_SECONDS = 5.0
"""How long no request tries the replica again after it was away or too far behind."""

# A replica holds everything that was committed before the last transaction that it replayed. While
# the service has nothing to do, nothing is committed, and the true lag is smaller than this result.
# A server that is not in recovery is the primary itself, or a replica that was promoted by mistake
# and gets no new data. The time of the workers' last commits tells the two apart while there is
# work, and `_PLACE` at any time.
_LAG = text("""
SELECT EXTRACT(epoch FROM clock_timestamp() - CASE
  WHEN pg_is_in_recovery() THEN pg_last_xact_replay_timestamp()
  ELSE (SELECT GREATEST(swept_until, (SELECT max(seen_at) FROM sightings)) FROM sweep)
END)
""")
# A transaction with an id leaves a commit in the log, even if it wrote nothing.
_COMMIT = text("SELECT pg_current_xact_id()")
# Where a server writes its log. A promoted replica writes to another timeline.
_PLACE = text("""
SELECT left(pg_walfile_name(place), 8) AS timeline, place - '0/0' AS position
FROM (SELECT CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_insert_lsn() END AS place) its
""")
_CATCH_UP_SECONDS, _CATCH_UP_LOOKS = 1.0, 20
"""How long the replica may take to replay a commit that was made for it; how often to look."""


class ReplicaSnapshot(NamedTuple):
    """A snapshot on the replica, and how many seconds it is behind at most."""

    connection: AsyncConnection
    lag: float


class Replica:
    """Serves reads that may be a little behind. Without an engine, there is no replica."""

    def __init__(
        self, engine: AsyncEngine | None, primary: AsyncEngine, most_lag: float, clock: Clock
    ) -> None:
        """Create it; the first read connects. More than ``most_lag`` s behind, it is not used."""
        self.engine = engine
        self._primary = primary
        self.trouble: str | None = None
        """Why the last read used the primary; None while the replica answers."""
        self._most_lag = most_lag
        self._clock = clock
        self._next_try_at = 0.0
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

    async def snapshot(self, stack: AsyncExitStack) -> ReplicaSnapshot | None:
        """Return a snapshot of the replica that the stack closes. None: read from the primary."""
        if self.engine is None:
            return None
        if self.trouble is None or self._clock() >= self._next_try_at:
            # Set before the try: while the replica hangs, this request waits for it, others do not.
            self._next_try_at = self._clock() + _RETRY_SECONDS
            async with AsyncExitStack() as attempt:
                snapshot, trouble = await self._look(self.engine, attempt)
                self._note(trouble)
                if snapshot and not trouble:
                    stack.push_async_exit(attempt.pop_all().__aexit__)
                    return snapshot
        self._fallbacks.inc()
        return None

    async def measured(self) -> tuple[Collector, ...]:
        """Return the metrics of the replica; none if there is no replica."""
        if self.engine is None:
            return ()
        async with AsyncExitStack() as stack:
            snapshot, trouble = await self._look(self.engine, stack)
        self._lag.set(snapshot.lag if snapshot else float("nan"))
        self._in_use.set(trouble is None)
        return self._lag, self._in_use, self._fallbacks

    async def _look(
        self, engine: AsyncEngine, stack: AsyncExitStack
    ) -> tuple[ReplicaSnapshot | None, str | None]:
        """Return a snapshot, and the reason not to use it.

        The snapshot is None if the replica does not answer; the reason is None if all is well.
        """
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                pooled = await stack.enter_async_context(engine.connect())
                connection = await pooled.execution_options(isolation_level="REPEATABLE READ")
                lag = await self._measure(connection)
        except DATABASE_AWAY as error:
            return None, f"it does not answer ({why_away(error)})"
        if lag is None:
            return None, "it has just started, and does not know how old its data are"
        snapshot = ReplicaSnapshot(connection, max(0.0, lag))
        if snapshot.lag > self._most_lag:
            return snapshot, f"it may be {snapshot.lag:.0f} s behind"
        return snapshot, None

    async def _measure(self, connection: AsyncConnection) -> float | None:
        """Return how far behind the snapshot is; make a commit first if none was made for long."""
        lag = await _lag(connection)
        if lag is None or lag <= self._most_lag:
            return lag
        async with self._primary.begin() as primary:
            before = (await primary.execute(_PLACE)).one()
            there = (await connection.execute(_PLACE)).one()
            after = (await primary.execute(_PLACE)).one()
            await primary.execute(_COMMIT)
        if there.timeline is not None:
            is_primary = (
                there.timeline == before.timeline
                and before.position <= there.position <= after.position
            )
            return 0.0 if is_primary else lag
        for _ in range(_CATCH_UP_LOOKS):
            await connection.rollback()  # the next statement takes another snapshot
            await asyncio.sleep(_CATCH_UP_SECONDS / _CATCH_UP_LOOKS)
            lag = await _lag(connection)
            if lag is None or lag <= self._most_lag:
                break
        return lag

    def _note(self, trouble: str | None) -> None:
        if trouble and not self.trouble:
            log.warning("the primary answers for the read replica: %s", trouble)
        if self.trouble and not trouble:
            log.info("the read replica answers again")
        self.trouble = trouble


async def _lag(connection: AsyncConnection) -> float | None:
    lag = await connection.scalar(_LAG)
    return None if lag is None else float(lag)
