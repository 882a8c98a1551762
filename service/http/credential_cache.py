"""What a web process keeps in mind of credentials, and what it writes of their use."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Generic, TypeVar

from service.db.engine import DATABASE_AWAY
from service.http.auth.limits import Clock

T = TypeVar("T")

REMEMBERED = 3.0
"""Seconds for which what the database said of a credential is believed."""

_MOST_REMEMBERED = 10_000
_TOUCH_SECONDS = 60.0


class Remembered(Generic[T]):
    """What was looked up lately, so that not every request asks the database."""

    def __init__(self, clock: Clock) -> None:
        """Know nothing yet."""
        self._clock = clock
        self._known: dict[str, tuple[float, T]] = {}

    async def get(self, key: str, look_up: Callable[[], Awaitable[T]]) -> T:
        """Give what is known of it, looked up when that is not known or too old."""
        now = self._clock()
        if (known := self._known.get(key)) and known[0] > now:
            return known[1]
        found = await look_up()
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.clear()
        self._known[key] = now + REMEMBERED, found
        return found

    def forget(self, key: str) -> None:
        """Look it up the next time."""
        self._known.pop(key, None)


class Touches:
    """Notes of a use, written once a minute, and beside the request, not in its way."""

    def __init__(self, clock: Clock) -> None:
        """Have none to write."""
        self._clock = clock
        self._touched: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def touch(self, key: str, write: Callable[[], Awaitable[None]]) -> None:
        """Call ``write``, unless that was done for this key within the last minute."""
        now = self._clock()
        if now - self._touched.get(key, float("-inf")) < _TOUCH_SECONDS:
            return
        if len(self._touched) >= _MOST_REMEMBERED:
            self._touched.clear()
        self._touched[key] = now
        task = asyncio.create_task(_forgiving(write))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Finish what is being written."""
        await asyncio.gather(*self._tasks)


async def _forgiving(write: Callable[[], Awaitable[None]]) -> None:
    # The use itself must not fail for it; the next minute brings another.
    with suppress(*DATABASE_AWAY):
        await write()
