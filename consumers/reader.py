"""Read new entries of the streams of orders, as many bytes as there is room for."""

from redis.asyncio import Redis

from consumers.room import Room
from service.config import Config
from service.core.envelope import ENTRY_BYTES, Entry
from service.streams import entries
from service.streams.doorbell import Doorbell
from service.streams.entries import Limits, Member


class Reader:
    """Reads for one consumer of the group. It takes room before it asks Redis for entries."""

    def __init__(self, config: Config, consumer: str, room: Room) -> None:
        """Create the reader."""
        self._config = config
        self._room = room
        self._members = {
            stream.name: Member(stream, config.orders_group, consumer)
            for stream in config.orders_streams
        }
        self._last_delivered = dict[str, str]()
        """The last entry that the group received of each stream that had no new one lately."""
        self._bells = dict[str, Doorbell]()
        self._unclaimed = dict[str, int]()
        """Weight of the entries of each stream that were read and that nobody has taken yet."""

    async def read(self, redis: Redis, stream: str, seconds: float) -> list[Entry]:
        """Return new entries of a stream. Wait for them, but no longer than ``seconds``.

        They keep their room. The caller calls `hand_over` with it, or reads again if it has
        dropped them.
        """
        self.drop(stream)
        if stream not in self._last_delivered and (found := await self._read_now(redis, stream)):
            return found
        bell = self._bells.setdefault(stream, Doorbell(redis, stream))
        await bell.wait(self._last_delivered.get(stream, "0"), seconds)
        found = await self._read_now(redis, stream)
        if found:
            bell.answered()
        return found

    async def _read_now(self, redis: Redis, stream: str) -> list[Entry]:
        config = self._config
        least = config.max_event_bytes + ENTRY_BYTES
        taken = await self._room.take(least, max(least, config.page_bytes))
        kept = 0
        try:
            page = await entries.read(
                redis,
                self._members[stream],
                Limits(config.batch_size, taken, config.max_event_bytes),
            )
            self._unclaimed[stream] = kept = page.weight
        finally:
            self._room.give_back(taken - kept)
        if page.last_delivered:
            self._last_delivered[stream] = page.last_delivered
        else:
            self._last_delivered.pop(stream, None)
        return page.entries

    def hand_over(self, stream: str) -> int:
        """Return the weight of what was read of this stream. The caller gives back its room."""
        return self._unclaimed.pop(stream, 0)

    def drop(self, stream: str) -> None:
        """Free the room of entries that were read and then dropped. They stay pending in Redis."""
        self._room.give_back(self._unclaimed.pop(stream, 0))
