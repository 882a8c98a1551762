"""What Redis shows of the orders stream at one moment: read by one script, so it fits together."""

from typing import Any, NamedTuple

from redis.asyncio import Redis

from service.clients import Script, texts

StreamId = tuple[int, int]
"""An entry's id, which compares as Redis orders entries."""

NO_ID: StreamId = (0, 0)
_LAST_SEQUENCE = 2**64 - 1

_COUNTED = 500
"""More entries than these are not counted one by one, so that a look stays a matter of a ms."""
_COUNTED_ONCE = 10_000
"""As above, where it is done once in a catastrophe."""

# KEYS[1] stream; ARGV: group, the last id of an earlier look, most to count.
_LOOK = Script("""
local time = redis.call('TIME')
local stream = redis.pcall('XINFO', 'STREAM', KEYS[1])
if stream.err then return {time[1], {}, {}, {}, 0, 0} end
local function field(info, name)
  for i = 1, #info, 2 do if info[i] == name then return info[i + 1] end end
end
local first = field(stream, 'first-entry')
local facts = {
  'added', field(stream, 'entries-added'), 'length', field(stream, 'length'),
  'last', field(stream, 'last-generated-id'), 'deleted', field(stream, 'max-deleted-entry-id'),
  'first', first and first[1] or '0-0'
}
local seen = #redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2])
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  if field(group, 'name') == ARGV[1] then
    local delivered = field(group, 'last-delivered-id')
    local unread = redis.call('XRANGE', KEYS[1], '(' .. delivered, '+', 'COUNT', ARGV[3])
    local pending = redis.call('XPENDING', KEYS[1], ARGV[1])
    return {time[1], facts, group, pending, #unread, seen}
  end
end
return {time[1], facts, {}, {}, 0, seen}
""")
# KEYS[1] stream; ARGV: the last id of an earlier look, most to count.
_SURVIVORS = Script("""
local kept = redis.call('XREVRANGE', KEYS[1], ARGV[1], '-', 'COUNT', 1)
local added = redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', ARGV[2])
return {kept[1] and kept[1][1] or '0-0', #added}
""")


class Sighting(NamedTuple):
    """The stream and our group on it. Of what does not exist, everything is zero."""

    moment: StreamId
    """An id that no entry added so far exceeds: Redis's clock."""
    added: int
    """Entries ever added; it goes back only where Redis forgot."""
    length: int
    last: StreamId
    """Of the last entry ever added."""
    first: StreamId
    """Of the first entry that is there."""
    deleted: StreamId
    """The greatest that XDEL removed."""
    delivered: StreamId
    """The last one that the group was given."""
    unread: int | None
    """Entries that are there and that the group was not given. None: too many to count."""
    pending: int
    settled: StreamId
    """Everything up to it was given to the group and acknowledged."""
    last_seen_is_there: bool
    """The entry that was the last one at an earlier look."""

    @property
    def removed(self) -> int:
        """Entries that were added and are gone, trimmed or deleted."""
        return self.added - self.length


class Survivors(NamedTuple):
    """What is left of an earlier look's stream."""

    last: StreamId
    """The last entry that is no newer than that look."""
    newer: int | None
    """Entries added since. None: too many to count."""


def parse(written: str | bytes) -> StreamId:
    """Read an id."""
    text = written.decode() if isinstance(written, bytes) else written
    milliseconds, _, sequence = text.partition("-")
    return int(milliseconds), int(sequence or 0)


def write(parsed: StreamId) -> str:
    """Write an id."""
    return f"{parsed[0]}-{parsed[1]}"


def before(parsed: StreamId) -> StreamId:
    """Give the greatest id that is smaller."""
    milliseconds, sequence = parsed
    if sequence:
        return milliseconds, sequence - 1
    return (milliseconds - 1, _LAST_SEQUENCE) if milliseconds else NO_ID


async def look(redis: Redis, stream: str, group: str, last_seen: StreamId = NO_ID) -> Sighting:
    """Look at the stream and the group on it; ``last_seen`` is the last id of an earlier look."""
    seconds, info, of_group, waiting, counted, seen = await _LOOK(
        redis, stream, group, write(last_seen), _COUNTED
    )
    moment = (int(seconds) * 1000 + 999, _LAST_SEQUENCE)
    facts, its = texts(_pairs(info)), texts(_pairs(of_group))
    length, last = facts.get("length", 0), parse(facts.get("last", "0-0"))
    first, delivered = parse(facts.get("first", "0-0")), parse(its.get("last-delivered-id", "0-0"))
    unread: int | None
    if delivered >= last or not length:
        unread = 0
    elif delivered < first:
        unread = length
    else:
        unread = counted if counted < _COUNTED else None
    pending = its.get("pending", 0)
    return Sighting(
        moment=moment,
        added=facts.get("added", 0),
        length=length,
        last=last,
        first=first,
        deleted=parse(facts.get("deleted", "0-0")),
        delivered=delivered,
        unread=unread,
        pending=pending,
        settled=before(parse(waiting[1])) if pending else delivered,
        last_seen_is_there=bool(seen),
    )


async def survivors(redis: Redis, stream: str, last_seen: StreamId) -> Survivors:
    """Tell what a stream that stepped back still has of an earlier look."""
    last, newer = await _SURVIVORS(redis, stream, write(last_seen), _COUNTED_ONCE)
    return Survivors(parse(last), newer if newer < _COUNTED_ONCE else None)


def _pairs(flat: list[Any]) -> dict[Any, Any]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
