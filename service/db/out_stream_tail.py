"""Sort the entries of an out-stream that the relay did not expect.

The relay knows the last entry that it has added. An entry beyond it is one of three:

* **Ours.** The relay added it and died before it could note that.
* **Unknown.** It looks like an event of ours, and this database never published it. Either the
  database was restored from a backup, or somebody has forged it.
* **Foreign.** This service cannot have written it.

Nothing here changes a customer or the history.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.published_event import MOST_NUMBER, NotOursError
from service.core.stream_ids import StreamId
from service.db.locks import read_clock
from service.db.outbox import Outbox, Unknown
from service.streams import out_stream
from service.streams.out_stream import StreamEntry

_PAGE = 1000


class Foreign(NamedTuple):
    """An entry that this service cannot have written, and why not."""

    entry: StreamEntry
    reason: str


class Tail(NamedTuple):
    """A page of entries after the last one that the relay knew, sorted."""

    ours: int
    """The publish number of the last entry of ours. 0 if there is none."""
    unknown: Sequence[Unknown[Any]]
    foreign: Sequence[Foreign]
    read_to: StreamId | None
    """The id of the last entry on the page. None: there is no entry."""
    last: StreamId
    """The last id ever added to the stream. The entry may be gone."""


class OutStream(NamedTuple):
    """A stream that the relay publishes, and the outbox that it is published from."""

    name: str
    outbox: Outbox[Any]


async def read_tail(
    connection: AsyncConnection, redis: Redis, stream: OutStream, position: int, after: StreamId
) -> Tail:
    """Read and sort the entries after an id, at most `_PAGE`.

    ``position`` is the publish number up to which the stream is known.
    """
    outbox = stream.outbox
    last, entries = await out_stream.entries_after(redis, stream.name, after, _PAGE)
    if not entries:
        return Tail(0, (), (), None, last)
    known = {
        event.number: event.body
        for event in await outbox.numbered_between(connection, position, entries[-1].id[0], _PAGE)
    }
    now = await read_clock(connection)
    ours, found = 0, list[Unknown[Any]]()
    foreign = list[Foreign]()
    for entry in entries:
        number, sequence = entry.id
        if sequence == 0 and entry.body is not None and known.get(number) == entry.body:
            ours = number
            continue
        try:
            found.append(_unknown(outbox, entry, now))
        except NotOursError as error:
            foreign.append(Foreign(entry, str(error)))
    refusals = await outbox.refusals(connection, found, position) if found else []
    unknown = list[Unknown[Any]]()
    for each, reason in zip(found, refusals, strict=True):
        if reason is None:
            unknown.append(each)
            continue
        body = each.body
        whole = StreamEntry((each.number, 0), len(body), body, body[: out_stream.SAMPLE_BYTES])
        foreign.append(Foreign(whole, reason))
    foreign.sort(key=lambda each: each.entry.id)
    return Tail(ours, unknown, foreign, entries[-1].id, last)


def _unknown(outbox: Outbox[Any], entry: StreamEntry, now: datetime) -> Unknown[Any]:
    number, sequence = entry.id
    if entry.body is None:
        msg = f"it does not have the form of a {outbox.event}"
        raise NotOursError(msg)
    if sequence or number > MOST_NUMBER:
        msg = "its id is none that the relay gives"
        raise NotOursError(msg)
    return Unknown(number, outbox.read(entry.body, now), entry.body)


async def take_in(
    connection: AsyncConnection, outbox: Outbox[Any], tail: Tail, position: int
) -> int:
    """Keep the unknown entries, and number on beyond the page; return the new position.

    If the page's last id leaves no room for more, the position is that of the last entry before.
    """
    if tail.unknown and outbox.keep:
        await outbox.keep(connection, tail.unknown)
    numbers = [each.number for each in tail.unknown]
    numbers += [each.entry.id[0] for each in tail.foreign]
    above = max((number for number in numbers if number <= MOST_NUMBER), default=0)
    if above > max(position, tail.ours):
        await outbox.renumber_beyond(connection, max(position, tail.ours), above)
        return above
    if tail.ours > position:
        await outbox.mark_published(connection, tail.ours)
    return max(position, tail.ours)
