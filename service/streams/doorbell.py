"""Wait for an entry without receiving it.

A script cannot wait, and a blocking read returns the entry, whatever its size. So a doorbell sends
a blocking XREAD whose answer is switched off by ``CLIENT REPLY SKIP``, and a PING behind it. Redis
answers the PING when the XREAD has ended: as soon as there is an entry, or after the time allowed.
"""

import asyncio
import logging
import math

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from service.streams import connections, redis_client

log = logging.getLogger(__name__)

_SHORTEST_PAUSE = 0.005
_LONGEST_PAUSE = 0.1


class Doorbell:
    """Waits for entries of one stream. Where Redis forbids that, it pauses for a moment instead."""

    def __init__(self, redis: Redis, stream: str) -> None:
        """Create the doorbell. It borrows a connection of the client while it waits."""
        self._redis = redis
        self._stream = stream
        self._forbidden = False
        self._pause = 0.0
        """How long to pause after the next ring, because the last one was in vain."""

    async def wait(self, after: str, seconds: float) -> None:
        """Return when the stream may have an entry beyond the id ``after``, or the time is over.

        Errors of Redis end the wait. The caller asks for the entry next, and meets them there.
        """
        clock = asyncio.get_running_loop().time
        end = clock() + seconds
        try:
            if not self._forbidden:
                await self._ring(after, seconds)
        except redis_client.REDIS_ERRORS as error:
            if isinstance(error, ResponseError) and not redis_client.is_away(error):
                log.warning("Redis forbids waiting for entries; asking again and again: %s", error)
                self._forbidden = True
        # The bell rings in vain if another worker was faster, and at once if Redis refused the
        # XREAD, because then it switched off the error as well. A pause prevents a busy loop.
        if self._pause:
            await asyncio.sleep(max(0.0, min(self._pause, end - clock())))
        rung = clock() < end
        self._pause = min(max(_SHORTEST_PAUSE, 2 * self._pause), _LONGEST_PAUSE) if rung else 0.0

    def answered(self) -> None:
        """Record that there was an entry."""
        self._pause = 0.0

    async def _ring(self, after: str, seconds: float) -> None:
        milliseconds = math.ceil(seconds * 1000)
        read = ("XREAD", "COUNT", 1, "BLOCK", milliseconds, "STREAMS", self._stream, after)
        commands = [("CLIENT", "REPLY", "SKIP"), read, ("PING",)]
        async with connections.borrowed(self._redis, self._stream) as connection:
            await connection.send_packed_command(connection.pack_commands(commands))
            await connection.read_response()
