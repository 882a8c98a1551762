"""The source of the live stream: one query per second for all listeners of a process.

A listener costs no more than a position in a ring buffer. A listener who reads too slowly misses
what the ring no longer holds. Without listeners, nothing is queried.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple

from sqlalchemy.ext.asyncio import AsyncEngine

from service.core.customer_ids import customer_ref
from service.core.json_values import camel, dumps
from service.db.engine import DATABASE_AWAY
from service.db.operations.activity import ActivityEvent, known_at, latest

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 15.0
_POLL_SECONDS = 1.0
_EVENTS_PER_QUERY = 100
"""How many events of each kind one query returns."""
_RING_SIZE = 1000
_OVERLAP = timedelta(seconds=5)
"""An event may become visible late, because its transaction commits after those of newer events. So
a listener who comes from another process gets the events of this last stretch again."""


def event_json(event: ActivityEvent) -> dict[str, Any]:
    """Return the JSON of an order, a segment change or an edit."""
    customer_id = None if event.customer_id is None else customer_ref(event.customer_id)
    return {
        "id": event.id,
        "at": event.at,
        "customerId": customer_id,
        "customerName": event.customer_name,
        "type": event.kind,
        **camel(event.details._asdict()),
    }


class _Sent(NamedTuple):
    number: int
    event: ActivityEvent
    frame: bytes
    live: bool
    """False for events of the first query: other processes may have sent those in another order."""


class Feed:
    """The live stream of one process."""

    def __init__(self, engine: AsyncEngine, stopping: Callable[[], bool]) -> None:
        """Create a feed that queries only while somebody listens. ``stopping`` ends all streams."""
        self._engine = engine
        self._stopping = stopping
        self._ring: deque[_Sent] = deque(maxlen=_RING_SIZE)
        self._seen: set[str] = set()
        self._next = 0
        self._news = asyncio.Event()
        self._fresh = False
        """True once the ring has the result of a query since the first listener came."""
        self._poller: asyncio.Task[None] | None = None
        self.listeners = 0

    @property
    def polling(self) -> bool:
        """True while the database is queried every second."""
        return self._poller is not None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Count a listener until their request ends, however it ends."""
        self.listeners += 1
        if self._poller is None:
            self._poller = asyncio.create_task(self._poll(), name="activity")
        try:
            yield
        finally:
            self.listeners -= 1
            if not self.listeners and self._poller is not None:
                self._poller.cancel()
                self._poller, self._fresh = None, False

    async def frames(self, last_id: str | None, *, accounts: bool) -> AsyncIterator[bytes]:
        """Yield server-sent events of what happens from now on, or since ``last_id``.

        Without ``accounts``, sign-ins and changes of users and keys are left out.
        Each event comes at least once, so clients ignore ids that they have seen. A comment every
        15 s shows that the stream is alive.
        """
        yield b"retry: 2000\n\n"
        position: int | None = None
        while not self._stopping():
            news = self._news
            if self._fresh:
                position = self._start(last_id) if position is None else position
                frames = [
                    sent.frame
                    for sent in self._ring
                    if sent.number >= position and (accounts or not sent.event.of_accounts)
                ]
                position = self._next
                if frames:
                    yield b"".join(frames)
                    continue
            try:
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    await news.wait()
            except TimeoutError:
                yield b": alive\n\n"

    def _start(self, last_id: str | None) -> int:
        """Return the number of the first event for a listener who has seen ``last_id``."""
        if last_id is None or (known := known_at(last_id)) is None:
            return self._next
        for sent in self._ring:
            if sent.live and sent.event.id == last_id:
                return sent.number + 1
        since = known - _OVERLAP
        missed = [sent.number for sent in self._ring if sent.event.known >= since]
        return min(missed, default=self._next)

    async def _poll(self) -> None:
        while True:
            try:
                self._add(await self._query())
            except DATABASE_AWAY as error:
                log.warning("the live stream pauses: %s", type(error).__name__)
            if self._stopping():
                self._wake()
            await asyncio.sleep(_POLL_SECONDS)

    async def _query(self) -> list[ActivityEvent]:
        async with self._engine.connect() as connection:
            return await latest(connection, _EVENTS_PER_QUERY, accounts=True)

    def _add(self, events: list[ActivityEvent]) -> None:
        new = [event for event in events if event.id not in self._seen]
        for event in sorted(new, key=lambda event: (event.known, event.number, event.id)):
            frame = b"id: %s\ndata: %s\n\n" % (event.id.encode(), dumps(event_json(event)))
            self._ring.append(_Sent(self._next, event, frame, self._fresh))
            self._next += 1
        self._seen = {sent.event.id for sent in self._ring}
        self._seen |= {event.id for event in events}
        if new or not self._fresh:
            self._fresh = True
            self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
