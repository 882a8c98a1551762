"""An out-stream in Redis: add events, look at what somebody else added, and remove it.

Ids are compared as text or as Python's whole numbers. Lua's numbers are exact up to 2^53 only, and
anybody who can write the stream can choose an id of up to 2^64.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
from redis.asyncio import Redis

from service.core.envelope import FASTSTREAM_FIELD
from service.core.published_event import MOST_BYTES
from service.core.stream_ids import StreamId, before, parse, write
from service.streams.redis_client import Script

SAMPLE_BYTES = 1024
"""How much is kept of an entry that is not ours."""

# Returns the stream's last id before anything was added. Adds only if that is the one `expected`:
# otherwise Redis lost entries, or somebody else wrote to the stream. The events come packed: as
# arguments of their own, they cost both ends half as much again.
_ADD = Script("""
local stream, field, expected = KEYS[1], ARGV[1], ARGV[2]
local last = '0-0'
if redis.call('EXISTS', stream) == 1 then
  local info = redis.call('XINFO', 'STREAM', stream)
  for i = 1, #info, 2 do if info[i] == 'last-generated-id' then last = info[i + 1] end end
end
if last == expected then
  local ids_and_bodies = cmsgpack.unpack(ARGV[3])
  for i = 1, #ids_and_bodies, 2 do
    redis.call('XADD', stream, ids_and_bodies[i], field, ids_and_bodies[i + 1])
  end
end
return last
""")
# Returns the stream's last id, and the entries after an id: the id; the bytes of all fields; 1 if
# the one field is ours and its value is short enough, else 0; and the value, or the beginning of
# the first one. Entries are looked at one by one, because somebody else's may be huge.
_AFTER = Script("""
local stream, field, from = KEYS[1], ARGV[1], '(' .. ARGV[2]
local most, longest, sample = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
if redis.call('EXISTS', stream) == 0 then return {'0-0', {}} end
local info, last, found = redis.call('XINFO', 'STREAM', stream), '0-0', {}
for i = 1, #info, 2 do if info[i] == 'last-generated-id' then last = info[i + 1] end end
while #found < most and from ~= '(' .. last do  -- no range may begin after the greatest id
  local entry = redis.call('XRANGE', stream, from, '+', 'COUNT', 1)[1]
  if not entry then break end
  local id, fields, size = entry[1], entry[2], 0
  for _, text in ipairs(fields) do size = size + #text end
  local whole = #fields == 2 and fields[1] == field and #fields[2] <= longest
  local kept = whole and fields[2] or string.sub(fields[2] or '', 1, sample)
  found[#found + 1] = {id, size, whole and 1 or 0, kept}
  from = '(' .. id
end
return {last, found}
""")
# Deletes the stream and creates its groups again, unless its last id is no longer the one given.
# ARGV holds that id, and from then on a group and the id after which it reads on in turn.
_START_OVER = Script("""
local stream = KEYS[1]
local info = redis.call('XINFO', 'STREAM', stream)
for i = 1, #info, 2 do
  if info[i] == 'last-generated-id' and info[i + 1] ~= ARGV[1] then return 0 end
end
redis.call('DEL', stream)
for i = 2, #ARGV, 2 do
  redis.call('XGROUP', 'CREATE', stream, ARGV[i], ARGV[i + 1], 'MKSTREAM')
end
return 1
""")


class StreamEntry(NamedTuple):
    """An entry of an out-stream that the relay did not expect."""

    id: StreamId
    size: int
    """Bytes of all fields."""
    body: bytes | None
    """The event's JSON. None if the entry does not have the form of ours."""
    sample: bytes
    """The beginning of the value."""


async def add(
    redis: Redis, stream: str, expected: StreamId, events: Iterable[tuple[int, bytes]]
) -> StreamId:
    """Add events, by number and body, if the stream's last id is the one expected.

    Return the last id before that. If it is another one, nothing was added.
    """
    packed: list[str] = []
    for number, body in events:
        packed += (f"{number}-0", body.decode())
    arguments = FASTSTREAM_FIELD, write(expected), msgspec.msgpack.encode(packed)
    return parse(await _ADD(redis, stream, *arguments))


async def entries_after(
    redis: Redis, stream: str, after: StreamId, most: int
) -> tuple[StreamId, list[StreamEntry]]:
    """Return the last id ever added, and entries with ids greater than ``after``.

    There are at most ``most``. Their size does not matter.
    """
    last, found = await _AFTER(
        redis, stream, FASTSTREAM_FIELD, write(after), most, MOST_BYTES, SAMPLE_BYTES
    )
    return parse(last), [
        StreamEntry(parse(id_), size, value if whole else None, value[:SAMPLE_BYTES])
        for id_, size, whole, value in found
    ]


async def remove(redis: Redis, stream: str, ids: Sequence[StreamId]) -> None:
    """Delete entries."""
    if ids:
        await redis.xdel(stream, *map(write, ids))


async def start_over(redis: Redis, stream: str, last: StreamId, position: StreamId) -> bool:
    """Delete the stream, because its last id leaves no room for more. Its groups stay.

    A group reads on after what it has acknowledged, and at most after ``position``. Return False if
    the stream's last id is no longer ``last``; then nothing was changed.
    """
    raw: Any = redis
    arguments: list[str | bytes] = [write(last)]
    for info in await raw.xinfo_groups(stream):
        name, delivered = info["name"], parse(info["last-delivered-id"])
        summary = await raw.xpending(stream, name)
        unfinished = before(parse(summary["min"])) if summary["pending"] else delivered
        arguments += (name, write(min(unfinished, delivered, position)))
    return bool(await _START_OVER(redis, stream, *arguments))
