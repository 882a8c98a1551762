"""Facts about a stream, without its content: XINFO STREAM alone returns two whole entries."""

from typing import Any, NamedTuple

from redis.asyncio import Redis

from service.core.stream_ids import NO_ID, StreamId, parse, write
from service.streams.redis_client import Script

# `stream_info` returns what XINFO STREAM says, by name, and 'first': the id of the first entry. It
# returns nothing if there is no stream. Redis clears the memory of its scripts long after they have
# ended, so the memory of large entries is freed at once.
STREAM_INFO = """
local function stream_info(stream)
  local answer = redis.pcall('XINFO', 'STREAM', stream)
  if answer.err then
    if string.find(answer.err, 'no such key') then return end
    error(answer)
  end
  local info, size = {}, 0
  for i = 1, #answer, 2 do info[answer[i]] = answer[i + 1] end
  info['first'] = info['first-entry'] and info['first-entry'][1] or '0-0'
  for _, name in ipairs({'first-entry', 'last-entry'}) do
    local entry = info[name]
    if entry then for _, part in ipairs(entry[2]) do size = size + #part end end
    info[name] = nil
  end
  if size > 1000000 then
    answer = nil
    collectgarbage()
  end
  return info
end
"""
# `count_after` returns the number of entries beyond an id, at most `most`; the last of them, or the
# id itself; and whether there is no further one. It stops after loading `most_bytes`, a few entries
# at a time, so that few are in memory here even if all are huge.
COUNT_AFTER = """
local function count_after(stream, after, most, most_bytes)
  local counted, loaded = 0, 0
  local greatest = '18446744073709551615-18446744073709551615'
  while counted < most and loaded < most_bytes do
    if after == greatest then return counted, after, true end  -- no range may begin after it
    local entries = redis.call('XRANGE', stream, '(' .. after, '+', 'COUNT', 4)
    for _, entry in ipairs(entries) do
      for _, part in ipairs(entry[2]) do loaded = loaded + #part end
      after = entry[1]
    end
    counted = counted + #entries
    if #entries < 4 then
      if loaded > 1000000 then collectgarbage() end
      return counted, after, true
    end
  end
  collectgarbage()
  return counted, after, false
end
"""
_INFO = Script(f"""
{STREAM_INFO}
local info = stream_info(KEYS[1])
if info then return {{info['length'], info['last-generated-id']}} end
""")
_COUNT = Script(f"""
{COUNT_AFTER}
return {{count_after(KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]))}}
""")
_COUNTED_AT_ONCE = 1000
_BYTES_AT_ONCE = 16 << 20
"""Counting an entry loads it inside Redis, so these bound the memory and the time of a script."""


class StreamInfo(NamedTuple):
    """The length of a stream and the last id ever added, even if it was trimmed since."""

    length: int
    last: StreamId


async def stream_info(redis: Redis, stream: str) -> StreamInfo:
    """Return facts about a stream; zeros if there is none."""
    answer: Any = await _INFO(redis, stream)
    return StreamInfo(answer[0], parse(answer[1])) if answer else StreamInfo(0, NO_ID)


async def count_after(redis: Redis, stream: str, after: StreamId) -> int:
    """Return how many entries have a greater id, without reading them from Redis."""
    counted, reached, ended = 0, write(after), None
    while not ended:
        more, last, ended = await _COUNT(redis, stream, reached, _COUNTED_AT_ONCE, _BYTES_AT_ONCE)
        counted, reached = counted + more, last
    return counted
