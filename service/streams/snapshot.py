"""What Redis shows of the orders stream at one moment: read by one script, so it fits together."""

from typing import Any

from redis.asyncio import Redis

from service.core.loss_arithmetic import StreamSnapshot, Survivors
from service.core.stream_ids import LAST_SEQUENCE, NO_ID, StreamId, before, parse, write
from service.streams.redis_client import Script, texts

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


async def look(
    redis: Redis, stream: str, group: str, last_seen: StreamId = NO_ID
) -> StreamSnapshot:
    """Look at the stream and the group on it; ``last_seen`` is the last id of an earlier look."""
    seconds, info, of_group, waiting, counted, seen = await _LOOK(
        redis, stream, group, write(last_seen), _COUNTED
    )
    moment = (int(seconds) * 1000 + 999, LAST_SEQUENCE)
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
    return StreamSnapshot(
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
