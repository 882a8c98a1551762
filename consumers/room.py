"""The bytes of entries that a worker may hold, which it takes before it reads them."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from typing import NamedTuple


class _Waiting(NamedTuple):
    least: int
    most: int
    granted: asyncio.Future[int]


class Room:
    """A number of bytes. Whoever wants some takes them, first come first served."""

    def __init__(self, size: int) -> None:
        """Create a room that is empty, so all its bytes are free."""
        self._size = size
        self._free = size
        self._waiting = deque[_Waiting]()

    async def take(self, least: int, most: int) -> int:
        """Wait until ``least`` bytes are free, take up to ``most``, and return how many.

        Bytes beyond the size of the room are never free, so less counts as all of them.
        """
        waiting = _Waiting(min(least, self._size), most, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._serve()
        try:
            return await waiting.granted
        except asyncio.CancelledError:
            if waiting.granted.cancelled():
                self._serve()  # somebody behind may be served now
            else:
                self.give_back(waiting.granted.result())
            raise

    def give_back(self, taken: int) -> None:
        """Free bytes that were taken."""
        self._free += taken
        self._serve()

    @contextlib.asynccontextmanager
    async def all_of_it(self) -> AsyncIterator[None]:
        """Wait until the room is empty, and keep everybody out during the block."""
        taken = await self.take(self._size, self._size)
        try:
            yield
        finally:
            self.give_back(taken)

    def _serve(self) -> None:
        while self._waiting:
            least, most, granted = self._waiting[0]
            if not granted.cancelled():
                if least > self._free:
                    return
                taken = max(least, min(most, self._free))
                self._free -= taken
                granted.set_result(taken)
            self._waiting.popleft()
