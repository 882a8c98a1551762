"""Read entries that every group has acknowledged, and delete some of them.

Deleting in the middle of a stream is safe below the id that each group was last delivered. From
there on, Redis could no longer tell how many entries a group has not read (`lag` becomes null), and
our check for losses would miss an entry. So the entry with that very id stays, too, until the group
has read another one.
"""

from collections.abc import Sequence
from typing import NamedTuple

from redis.asyncio import Redis

from service.core.envelope import Entry
from service.core.stream_ids import StreamId, parse, write
from service.streams.lua import FIELD_AND_SMALLER
from service.streams.redis_client import Script
from service.streams.stream_info import STREAM_INFO

_PAGE_ENTRIES = 500
_PAGE_BYTES = 1_000_000

# `bound` is the first id that must stay. It is false if the group is not on the stream, or if a
# group has received nothing yet.
_BOUND = (
    FIELD_AND_SMALLER
    + """
local stream, required_group = KEYS[1], ARGV[1]
local function first_needed()
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  if groups.err then return false end
  local bound, has_required_group = false, false
  for _, group in ipairs(groups) do
    local name, delivered = field(group, 'name'), field(group, 'last-delivered-id')
    has_required_group = has_required_group or name == required_group
    if not bound or smaller(delivered, bound) then bound = delivered end
    local pending = redis.call('XPENDING', stream, name)
    if pending[1] > 0 and smaller(pending[2], bound) then bound = pending[2] end
  end
  return has_required_group and bound ~= '0-0' and bound
end
local bound = first_needed()
"""
)
# Returns the last id ever added, and the entries between `after` and `bound`, at most so many
# entries, and not more after so many bytes. An entry that is larger than `largest` has no fields.
_READ = Script(
    STREAM_INFO
    + _BOUND
    + """
local after, most, most_bytes, largest = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]),
  tonumber(ARGV[5])
local info = stream_info(stream)
if not info then return {'0-0', {}} end
local entries, bytes = {}, 0
while bound and #entries < most and bytes < most_bytes do
  local some = redis.call('XRANGE', stream, '(' .. after, '(' .. bound, 'COUNT', 4)
  for _, entry in ipairs(some) do
    local size = 0
    for _, part in ipairs(entry[2]) do size = size + #part end
    if size > largest then
      entry[2] = {}
      collectgarbage()
    else
      bytes = bytes + size
    end
    entries[#entries + 1] = entry
    after = entry[1]
  end
  if #some < 4 then break end
end
return {info['last-generated-id'], entries}
"""
)
_DELETE = Script(
    _BOUND
    + """
local deleted = 0
for place = 2, #ARGV do
  if bound and smaller(ARGV[place], bound) then
    deleted = deleted + redis.call('XDEL', stream, ARGV[place])
  end
end
return deleted
"""
)


class AcknowledgedPage(NamedTuple):
    """Entries that every group has acknowledged, and the last id that the stream ever had."""

    entries: Sequence[Entry]
    """An entry that is too large has no fields."""
    last: StreamId
    """`NO_ID` if there is no such stream."""


async def read_acknowledged(
    redis: Redis, stream: str, group: str, after: StreamId, largest: int
) -> AcknowledgedPage:
    """Return the next entries after an id. No entries if ``group`` is not on the stream."""
    last, entries = await _READ(
        redis, stream, group, write(after), _PAGE_ENTRIES, _PAGE_BYTES, largest
    )
    return AcknowledgedPage(
        [
            Entry(id_.decode(), dict(zip(fields[::2], fields[1::2], strict=True)))
            for id_, fields in entries
        ],
        parse(last),
    )


async def delete_acknowledged(redis: Redis, stream: str, group: str, ids: Sequence[str]) -> int:
    """Delete entries, but none that a group still needs; return how many there were."""
    return int(await _DELETE(redis, stream, group, *ids))
