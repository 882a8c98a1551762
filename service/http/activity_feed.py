"""The live stream's source: one look per second at the latest, whoever many listen.

Nothing is kept per listener but a position, and a listener who is too slow misses what the ring
no longer holds. Nobody listens: nobody looks.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncEngine

from service.core.json_values import dumps
from service.db.engine import DATABASE_AWAY
from service.db.operations.activity import ActivityEvent, known_at, latest

log = logging.getLogger(__name__)

LISTENERS = 200
"""Streams per process; more are refused."""
HEARTBEAT_SECONDS = 15.0
_POLL_SECONDS = 1.0
_LOOKED_AT = 100
_KEPT = 1000
_OVERLAP = timedelta(seconds=5)
"""What another process sent last may have overtaken what was committed a little later."""


class _Sent(NamedTuple):
    number: int
    happening: ActivityEvent
    frame: bytes
    live: bool
    """Sent as it came. What was found on the first look has no order that listeners know."""


class Feed:
    """What happens, for the listeners of one process."""

    def __init__(self, engine: AsyncEngine, stopping: Callable[[], bool]) -> None:
        """Declare it; it looks only while somebody listens. ``stopping`` ends all streams."""
        self._engine = engine
        self._stopping = stopping
        self._ring: deque[_Sent] = deque(maxlen=_KEPT)
        self._seen: set[str] = set()
        self._next = 0
        self._news = asyncio.Event()
        self._fresh = False
        self._poller: asyncio.Task[None] | None = None
        self.listeners = 0

    @property
    def full(self) -> bool:
        """No more streams are taken."""
        return self.listeners >= LISTENERS

    @property
    def polling(self) -> bool:
        """It looks every second."""
        return self._poller is not None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Count a listener in, and out, however their request ends."""
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

    async def frames(self, last_id: str | None) -> AsyncIterator[bytes]:
        """Give what happens from now on, or since ``last_id``, as server-sent events.

        Each comes at least once: drop ids that have been seen. A comment every 15 s shows that
        the stream lives.
        """
        yield b"retry: 2000\n\n"
        position: int | None = None
        while not self._stopping():
            news = self._news
            if self._fresh:
                position = self._start(last_id) if position is None else position
                frames = [sent.frame for sent in self._ring if sent.number >= position]
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
        if last_id is None or (known := known_at(last_id)) is None:
            return self._next
        for sent in self._ring:
            if sent.live and sent.happening.id == last_id:
                return sent.number + 1
        since = known - _OVERLAP
        missed = [sent.number for sent in self._ring if sent.happening.known >= since]
        return min(missed, default=self._next)

    async def _poll(self) -> None:
        while True:
            try:
                self._add(await self._look())
            except DATABASE_AWAY as error:
                log.warning("the live stream pauses: %s", type(error).__name__)
            if self._stopping():
                self._wake()
            await asyncio.sleep(_POLL_SECONDS)

    async def _look(self) -> list[ActivityEvent]:
        async with self._engine.connect() as connection:
            return await latest(connection, _LOOKED_AT)

    def _add(self, happenings: list[ActivityEvent]) -> None:
        new = [happening for happening in happenings if happening.id not in self._seen]
        for happening in sorted(new, key=lambda each: (each.known, each.number, each.id)):
            frame = b"id: %s\ndata: %s\n\n" % (happening.id.encode(), dumps(happening.body))
            self._ring.append(_Sent(self._next, happening, frame, self._fresh))
            self._next += 1
        self._seen = {sent.happening.id for sent in self._ring}
        self._seen |= {happening.id for happening in happenings}
        if new or not self._fresh:
            self._fresh = True
            self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
