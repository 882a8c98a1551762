"""Trim a stream, but never entries that a group on it has not acknowledged.

Trimming is by `MINID` and approximate: Redis frees whole nodes of a stream, so a few more entries
stay than were asked for. The last entry stays as well, so that the stream never looks empty.
"""

from typing import NamedTuple

from redis.asyncio import Redis

from service.core.printable import printable_bytes
from service.streams.lua import FIELD_AND_SMALLER
from service.streams.redis_client import Script
from service.streams.stream_info import STREAM_INFO

_MOST_TRIMMED = 10_000
"""Entries per call. Trimming them takes some milliseconds, and Redis serves no client meanwhile."""
_NODE_ENTRIES = 100
"""Entries that approximate trimming may leave (`stream-node-max-entries`)."""

# Returns the number of entries trimmed and the number left; the first id left; and the group that
# prevented more trimming, with the first entry that it needs (both false if no group did).
# It is one script, so that no group is created and no entry is delivered between looking and
# trimming.
_TRIM = Script(
    STREAM_INFO
    + FIELD_AND_SMALLER
    + """
local stream = KEYS[1]
local max_age_ms, keep_entries = ARGV[1], tonumber(ARGV[2])      -- max_age_ms may be ''
local required_group = ARGV[3]                                   -- '' if no group must exist
local most_trimmed, node_entries = tonumber(ARGV[4]), tonumber(ARGV[5])

local groups = redis.pcall('XINFO', 'GROUPS', stream)
if groups.err then return {0, 0, '0-0', false, false} end
-- `bound` is the first id that must stay: the smallest one that any group has not acknowledged, or
-- the last entry. `holder` is the group that needs it.
local last = stream_info(stream)['last-generated-id']
local bound, holder, has_required_group = last, false, required_group == ''
for _, group in ipairs(groups) do
  local name = field(group, 'name')
  has_required_group = has_required_group or name == required_group
  local delivered, unread = field(group, 'last-delivered-id'), nil
  if delivered ~= last then  -- no range may begin after the greatest id
    unread = redis.call('XRANGE', stream, '(' .. delivered, '+', 'COUNT', 1)[1]
  end
  local needed = unread and unread[1]
  local pending = redis.call('XPENDING', stream, name)
  if pending[1] > 0 and not (needed and smaller(needed, pending[2])) then needed = pending[2] end
  if needed and not smaller(bound, needed) then bound, holder = needed, name end
end
if not has_required_group then return {0, 0, '0-0', false, false} end

local removed, held = 0, false
local function trim(minid, most)
  local gone = redis.call('XTRIM', stream, 'MINID', '~', minid, 'LIMIT', most)
  removed = removed + gone
  return gone
end
if max_age_ms ~= '' then
  local time = redis.call('TIME')
  local limit = math.max(0, time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(max_age_ms))
  local minid = string.format('%.0f-0', limit)
  if smaller(bound, minid) then
    held, minid = holder, bound
  end
  trim(minid, most_trimmed)
end
local excess = redis.call('XLEN', stream) - keep_entries
if excess > 0 then
  local most = math.min(excess, most_trimmed)
  -- Fewer entries than a node has may stay because trimming is approximate: no group holds those.
  if trim(bound, most) == 0 and most >= node_entries then held = held or holder end
end
local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
return {removed, redis.call('XLEN', stream), first and first[1] or '0-0', held, held and bound}
"""
)


class Keep(NamedTuple):
    """How much of a stream to keep. The stricter of the two limits holds."""

    seconds: float | None
    """The entries' greatest age, by their ids. None if the ids are not times."""
    entries: int


class Trimmed(NamedTuple):
    """The result of one call of `trim`."""

    entries: int
    left: int
    first_id: str
    """The first entry that is left."""
    held_by: str | None
    """The group that prevented more trimming, control characters escaped. None if no group did."""
    held_at: str | None
    """The first entry that this group has not acknowledged."""


async def trim(redis: Redis, stream: str, keep: Keep, *, group: str | None = None) -> Trimmed:
    """Trim up to `_MOST_TRIMMED` entries per limit; call again until it trims none.

    Does nothing if there is no such stream, or if ``group`` is named and not on the stream.
    """
    age = "" if keep.seconds is None else int(keep.seconds * 1000)
    removed, left, first, held_by, held_at = await _TRIM(
        redis, stream, age, keep.entries, group or "", _MOST_TRIMMED, _NODE_ENTRIES
    )
    return Trimmed(
        removed,
        left,
        first.decode(),
        held_by and printable_bytes(held_by),
        held_at and held_at.decode(),
    )
