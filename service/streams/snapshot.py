"""Read the state of a stream and its group in one script, so that all numbers agree."""

from typing import Any

from redis.asyncio import Redis

from service.core.loss_arithmetic import Remainder, StreamSnapshot
from service.core.stream_ids import LAST_SEQUENCE, NO_ID, StreamId, before, parse, write
from service.streams.redis_client import Script, texts
from service.streams.stream_info import COUNT_AFTER, STREAM_INFO

_MOST_COUNTED = 500
"""Unread entries are counted one by one up to this number, so that a snapshot takes about a
millisecond."""
_MOST_COUNTED_ONCE = 10_000
"""The same limit after a rollback, when entries are counted only once."""
_MOST_ADDED = 10**12
"""No stream ever had more entries. Whoever may send XSETID can make Redis claim more, and a script
returns the greatest numbers as negative ones."""

_MOST_BYTES = 4 << 20
_MOST_BYTES_ONCE = 64 << 20
"""The same limits in bytes: counting an entry loads it inside Redis."""

# Returns {seconds, facts, group, pending, unread, seen}: Redis's clock; XINFO of the stream and of
# the group, as flat lists of names and values; XPENDING's summary; the number of entries not
# delivered, -1 if they are too many to count; and 1 if `last_seen` is still there, else 0.
_SNAPSHOT = Script(f"""
local stream, group_name, last_seen = KEYS[1], ARGV[1], ARGV[2]
local most, most_bytes = tonumber(ARGV[3]), tonumber(ARGV[4])
{STREAM_INFO}
{COUNT_AFTER}
local seconds = redis.call('TIME')[1]
local info = stream_info(stream)
if not info then return {{seconds, {{}}, {{}}, {{}}, 0, 0}} end
local facts = {{
  'added', info['entries-added'], 'length', info['length'], 'last', info['last-generated-id'],
  'deleted', info['max-deleted-entry-id'], 'first', info['first']
}}
local seen = #redis.call('XRANGE', stream, last_seen, last_seen)
for _, group in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
  local group_facts = {{}}
  for i = 1, #group, 2 do group_facts[group[i]] = group[i + 1] end
  if group_facts['name'] == group_name then
    local unread, _, ended = count_after(stream, group_facts['last-delivered-id'], most, most_bytes)
    local pending = redis.call('XPENDING', stream, group_name)
    return {{seconds, facts, group, pending, ended and unread or -1, seen}}
  end
end
return {{seconds, facts, {{}}, {{}}, 0, seen}}
""")
# Returns the last id in the stream that is not greater than `last_seen`, and the number of entries
# beyond `last_seen`, -1 if they are too many to count.
_REMAINDER = Script(f"""
local stream, last_seen = KEYS[1], ARGV[1]
local most, most_bytes = tonumber(ARGV[2]), tonumber(ARGV[3])
{COUNT_AFTER}
local kept = redis.call('XREVRANGE', stream, last_seen, '-', 'COUNT', 1)
local added, _, ended = count_after(stream, last_seen, most, most_bytes)
return {{kept[1] and kept[1][1] or '0-0', ended and added or -1}}
""")


async def take_snapshot(
    redis: Redis, stream: str, group: str, last_seen: StreamId = NO_ID
) -> StreamSnapshot:
    """Return the state of a stream and a group. ``last_seen`` is the last id of the last check."""
    seconds, stream_pairs, group_pairs, pending_summary, counted, seen = await _SNAPSHOT(
        redis, stream, group, write(last_seen), _MOST_COUNTED, _MOST_BYTES
    )
    # An entry added within this second has a smaller id, whatever its sequence.
    moment = (int(seconds) * 1000 + 999, LAST_SEQUENCE)
    facts, group_facts = texts(_pairs(stream_pairs)), texts(_pairs(group_pairs))
    length, last = facts.get("length", 0), parse(facts.get("last", "0-0"))
    first = parse(facts.get("first", "0-0"))
    delivered = parse(group_facts.get("last-delivered-id", "0-0"))
    added = facts.get("added", 0)
    unread: int | None
    if delivered >= last or not length:
        unread = 0
    elif delivered < first:
        unread = length
    else:
        unread = None if counted < 0 else counted
    pending = group_facts.get("pending", 0)
    return StreamSnapshot(
        moment=moment,
        added=added if 0 <= added <= _MOST_ADDED else _MOST_ADDED,
        length=length,
        last=last,
        first=first,
        deleted=parse(facts.get("deleted", "0-0")),
        delivered=delivered,
        unread=unread,
        pending=pending,
        acknowledged=before(parse(pending_summary[1])) if pending else delivered,
        has_last_seen=bool(seen),
    )


async def read_remainder(redis: Redis, stream: str, last_seen: StreamId) -> Remainder:
    """Return how much of the stream that the last check saw is left after a rollback."""
    last, newer = await _REMAINDER(
        redis, stream, write(last_seen), _MOST_COUNTED_ONCE, _MOST_BYTES_ONCE
    )
    return Remainder(parse(last), None if newer < 0 else newer)


def _pairs(flat: list[Any]) -> dict[Any, Any]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
