"""Trimming a stream, never further than what every group on it has acknowledged.

By `MINID`, approximately: Redis frees whole nodes of a stream, so a few entries more than asked for
stay. The last entry stays as well, so that the stream never looks as if it had been emptied.
"""

from typing import NamedTuple

from redis.asyncio import Redis

from service.streams.redis_client import Script

_AT_ONCE = 10_000
"""Entries per call: some ms in which Redis serves nobody else."""
_NODE = 100
"""Entries that approximate trimming may leave (`stream-node-max-entries`)."""

# KEYS[1] stream; ARGV: age in ms or '', entries to keep, a group that must exist or '', most to
# trim at once, entries of a node.
# In one script, so that no group is created and no entry delivered between looking and trimming.
_TRIM = Script("""
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
if groups.err then return {0, 0, '0-0', false, false} end
local function field(info, name)
  for i = 1, #info, 2 do if info[i] == name then return info[i + 1] end end
end
-- Both halves of an id go up to 2^64, which Lua's numbers cannot tell apart. Without leading zeros
-- the longer of two is the greater, and those of one length compare as text.
local function less(a, b)
  if #a ~= #b then return #a < #b end
  return a < b
end
local function smaller(a, b)
  local a1, a2 = string.match(a, '(%d+)-(%d+)')
  local b1, b2 = string.match(b, '(%d+)-(%d+)')
  if a1 ~= b1 then return less(a1, b1) end
  return less(a2, b2)
end
local last = field(redis.call('XINFO', 'STREAM', KEYS[1]), 'last-generated-id')
local bound, holder, found = last, false, ARGV[3] == ''
for _, group in ipairs(groups) do
  local name = field(group, 'name')
  found = found or name == ARGV[3]
  local unread = redis.call('XRANGE', KEYS[1], '(' .. field(group, 'last-delivered-id'), '+',
                            'COUNT', 1)[1]
  local needed = unread and unread[1]
  local pending = redis.call('XPENDING', KEYS[1], name)
  if pending[1] > 0 and not (needed and smaller(needed, pending[2])) then needed = pending[2] end
  if needed and not smaller(bound, needed) then bound, holder = needed, name end
end
if not found then return {0, 0, '0-0', false, false} end
local removed, held = 0, false
local function trim(minid, most)
  local gone = redis.call('XTRIM', KEYS[1], 'MINID', '~', minid, 'LIMIT', most)
  removed = removed + gone
  return gone
end
if ARGV[1] ~= '' then
  local time = redis.call('TIME')
  local limit = math.max(0, time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(ARGV[1]))
  local old = string.format('%.0f-0', limit)
  if smaller(bound, old) then
    held, old = holder, bound
  end
  trim(old, ARGV[4])
end
local excess = redis.call('XLEN', KEYS[1]) - tonumber(ARGV[2])
if excess > 0 then
  local most = math.min(excess, tonumber(ARGV[4]))
  if trim(bound, most) == 0 and most >= tonumber(ARGV[5]) then held = held or holder end
end
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
return {removed, redis.call('XLEN', KEYS[1]), first and first[1] or '0-0', held, held and bound}
""")


class Keep(NamedTuple):
    """How much of a stream to keep, whichever is less."""

    seconds: float | None
    """By the entries' ids; None where these are no times."""
    entries: int


class Trimmed(NamedTuple):
    """What one call did."""

    entries: int
    left: int
    first_id: str
    """Of what is left."""
    held_by: str | None
    """The group that kept more from being trimmed."""
    held_at: str | None
    """The first entry that it has not acknowledged."""


async def trim(redis: Redis, stream: str, keep: Keep, *, group: str | None = None) -> Trimmed:
    """Trim up to `_AT_ONCE` entries; call again while there was something to trim.

    Without ``group`` on the stream (where one is named), or without the stream, nothing is done.
    """
    age = "" if keep.seconds is None else int(keep.seconds * 1000)
    removed, left, first, held_by, held_at = await _TRIM(
        redis, stream, age, keep.entries, group or "", _AT_ONCE, _NODE
    )
    return Trimmed(
        removed,
        left,
        first.decode(),
        held_by and held_by.decode(),
        held_at and held_at.decode(),
    )
