"""Read entries of a stream, never more than a number of bytes at once.

Redis bounds a read by the number of entries only, and one entry may have hundreds of megabytes. So
these scripts look at the sizes inside Redis. They stop when the bytes allowed are used up. Of an
entry that is larger than any event may be, they return the first bytes and the size.

An entry's weight is its size and the memory that a worker needs for it besides, so that a bound on
the weights bounds the memory, however small or large the entries are.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from redis.asyncio import Redis

from service.core.envelope import CANONICAL_FIELD, ENTRY_BYTES, KEPT_BYTES, MOST_FIELDS, Entry
from service.core.partitions import OrdersStream
from service.core.stream_ids import LAST_SEQUENCE, write
from service.streams.redis_client import Script

_GREATEST_ID = write((LAST_SEQUENCE, LAST_SEQUENCE))
NEW = ">"
"""In place of an id: the entries that no consumer of the group has received."""


class Limits(NamedTuple):
    """How much to read at once. The first entry is returned whatever its weight."""

    entries: int
    bytes: int = 8 << 20
    """The sum of the entries' weights."""
    largest: int = 1 << 20
    """Larger entries are cut."""


class Member(NamedTuple):
    """A consumer of a group on a stream."""

    stream: OrdersStream
    group: str
    consumer: str


class Page(NamedTuple):
    """Entries that were read at once."""

    entries: list[Entry]
    weight: int
    last_delivered: str | None
    """The last entry that the group has received. None unless there was no new entry."""


class Claimed(NamedTuple):
    """The result of claiming some entries."""

    entries: list[Entry]
    weight: int
    tried: int
    """How many of the ids were tried before the bytes allowed were used up."""


# `add` puts an entry into `found`: its id, and then the value of `data` if it has no other field,
# as nearly all have; otherwise a list of how many bytes are missing, names and values. The shorter
# form saves a third of Redis's time. An entry is cut to its first bytes if it is larger than
# `largest` or has too many fields: each costs a worker a hundred bytes, even if it is empty.
# `step` is how many entries the next command may return, so that few are in memory here even if
# all are huge, and so that entries of ordinary size never exceed `room`.
# Redis clears the memory of its scripts long after they have ended: too long for a huge entry.
_FITTING = f"""
local found, count, limit, most_parts = {{}}, 0, room, 2 * {MOST_FIELDS}
local function cut(fields, size)
  local parts, left = {{0}}, kept
  for i = 1, math.min(#fields, most_parts) do
    if left == 0 and i % 2 == 1 then break end
    parts[i + 1] = string.sub(fields[i], 1, left)
    left = left - #parts[i + 1]
  end
  parts[1] = math.max(1, size - (kept - left))
  return parts, kept - left
end
local function add(id, fields)
  local content, size = fields[2], #fields[1] + #fields[2]
  for i = 3, #fields do size = size + #fields[i] end
  if size > largest or #fields > most_parts then
    content, size = cut(fields, size)
    for i = 1, #fields do fields[i] = nil end
    collectgarbage()
  elseif #fields > 2 or fields[1] ~= 'data' then
    content = {{0, unpack(fields)}}
  end
  count, room = count + 1, room - size - overhead
  found[2 * count - 1], found[2 * count] = id, content
end
local function is_full() return count > 0 and room < largest + overhead end
local function step()
  return math.max(1, math.min(most - count, 4, math.floor(room / (largest + overhead))))
end
"""
_READ = Script(f"""
local stream, group, consumer, after = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local most, room, largest = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local kept, overhead = tonumber(ARGV[7]), tonumber(ARGV[8])
{_FITTING}
while count < most and not is_full() do
  local wanted = step()
  local answer = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', wanted,
                            'STREAMS', stream, after)
  local entries = answer and answer[1][2] or {{}}
  for i = 1, #entries do
    local id, fields = entries[i][1], entries[i][2]
    if after ~= '>' then after = id end
    if fields then add(id, fields) end  -- one that was deleted while pending has no fields
  end
  if #entries < wanted then break end
end
if count > 0 or after ~= '>' then return {{found, limit - room, false}} end
for _, info in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
  local facts = {{}}
  for i = 1, #info, 2 do facts[info[i]] = info[i + 1] end
  if facts['name'] == group then return {{found, 0, facts['last-delivered-id']}} end
end
return {{found, 0, false}}
""")
# After the first seven arguments, ARGV holds an id and the number of its deliveries in turn.
_CLAIM = Script(f"""
local stream, group, consumer, idle_ms = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local room, largest, kept, overhead =
  tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local first, most, tried = 8, #ARGV, 0
{_FITTING}
for i = first, #ARGV, 2 do
  if is_full() then break end
  local id, deliveries = ARGV[i], ARGV[i + 1]
  -- Without JUSTID, this would return the whole entry. If the entry was deleted, this removes it
  -- from the pending ones.
  local claimed = redis.call('XCLAIM', stream, group, consumer, idle_ms, id,
                             'RETRYCOUNT', deliveries, 'JUSTID')
  local entry = claimed[1] and redis.call('XRANGE', stream, id, id)[1]
  if entry then add(id, entry[2]) end
  tried = tried + 1
end
return {{found, limit - room, tried}}
""")
_RANGE = Script(f"""
local stream, from, to = KEYS[1], ARGV[1], ARGV[2]
local most, room, largest = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local kept, overhead = tonumber(ARGV[6]), tonumber(ARGV[7])
local greatest_id = '{_GREATEST_ID}'
{_FITTING}
while count < most and not is_full() do
  local wanted = step()
  local entries = redis.call('XRANGE', stream, from, to, 'COUNT', wanted)
  for i = 1, #entries do add(entries[i][1], entries[i][2]) end
  if #entries < wanted then break end
  from = '(' .. entries[#entries][1]
  if from == '(' .. greatest_id then break end  -- no range may begin after it
end
return found
""")


async def read(redis: Redis, member: Member, limits: Limits, *, after: str = NEW) -> Page:
    """Deliver new entries to a consumer and return them.

    With an id ``after``, return the entries beyond it that this consumer has received and not
    acknowledged.
    """
    (name, partition), group, consumer = member
    raw, weight, last_delivered = await _READ(
        redis, name, group, consumer, after, *limits, KEPT_BYTES, ENTRY_BYTES
    )
    return Page(_entries(raw, partition), weight, last_delivered and last_delivered.decode())


async def claim(
    redis: Redis,
    member: Member,
    idle_ms: int,
    deliveries: Sequence[tuple[str, int]],
    limits: Limits,
) -> Claimed:
    """Claim entries for a consumer, and return as many as the limits allow.

    ``deliveries`` has the ids, and the number of deliveries that Redis records for each from now
    on. Entries that another consumer has claimed meanwhile, or that are gone, are left out.
    """
    (name, partition), group, consumer = member
    arguments = [part for pair in deliveries[: limits.entries] for part in pair]
    raw, weight, tried = await _CLAIM(
        redis, name, group, consumer, idle_ms, *limits[1:], KEPT_BYTES, ENTRY_BYTES, *arguments
    )
    return Claimed(_entries(raw, partition), weight, tried)


async def read_range(
    redis: Redis, stream: str, start: str, end: str, limits: Limits
) -> list[Entry]:
    """Return the first entries between two ids. The range has ended only if there is none."""
    if start == f"({_GREATEST_ID}":
        return []  # Redis refuses a range that begins after the greatest id
    raw = await _RANGE(redis, stream, start, end, *limits, KEPT_BYTES, ENTRY_BYTES)
    return _entries(raw, None)


def _entries(raw: Sequence[Any], partition: int | None) -> list[Entry]:
    ids_and_contents = iter(raw)
    return [
        Entry(id_.decode(), {CANONICAL_FIELD: content}, partition)
        if isinstance(content, bytes)
        else _entry_of(id_.decode(), partition, *content)
        for id_, content in zip(ids_and_contents, ids_and_contents, strict=True)
    ]


def _entry_of(id_: str, partition: int | None, missing: int, *flat: bytes) -> Entry:
    names_and_values = iter(flat)
    fields = dict(zip(names_and_values, names_and_values, strict=True))
    return Entry(id_, fields, partition, missing)
