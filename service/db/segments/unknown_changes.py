"""Sort the entries of the out-stream that the relay did not expect.

The relay knows the last entry that it has added. An entry beyond it is one of three:

* **Ours.** The relay added it and died before it could note that.
* **Unknown.** It looks like a change of ours, and this database never published it. Either the
  database was restored from a backup, or somebody has forged it. It is kept in `unknown_changes`
  until a person decides, with `crm recover`. Until then no change of its customer is published,
  because subscribers would drop it: its sequence is taken.
* **Foreign.** This service cannot have written it.

Nothing here changes a customer or the history.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.published_change import MOST_NUMBER, NotOursError, PublishedChange, read_change
from service.core.stream_ids import StreamId
from service.db.locks import read_clock
from service.db.segments import outbox
from service.streams import out_stream
from service.streams.out_stream import StreamEntry

_PAGE = 1000
_MOST_KEPT = 1_000_000
"""Unknown changes that are kept, four times what the stream keeps by default. More are foreign:
whoever can write the stream must not fill the database."""

_COUNT = text("SELECT count(*) FROM unknown_changes")
_SEQUENCES = text("""
SELECT customer_id, max(sequence) AS sequence FROM segment_changes
WHERE customer_id = ANY(:ids) AND publish_number <= :position GROUP BY customer_id
""")
_KEEP = text("""
INSERT INTO unknown_changes (number, customer_id, body)
SELECT * FROM unnest(CAST(:numbers AS bigint[]), CAST(:customers AS bigint[]),
  CAST(:bodies AS bytea[]))
ON CONFLICT (number) DO NOTHING
""")


class Foreign(NamedTuple):
    """An entry that this service cannot have written, and why not."""

    entry: StreamEntry
    reason: str


class Tail(NamedTuple):
    """A page of entries after the last one that the relay knew, sorted."""

    ours: int
    """The publish number of the last entry of ours. 0 if there is none."""
    unknown: Sequence[tuple[int, PublishedChange, bytes]]
    """Publish number, change, and its JSON."""
    foreign: Sequence[Foreign]
    read_to: StreamId | None
    """The id of the last entry on the page. None: there is no entry."""
    last: StreamId
    """The last id ever added to the stream. The entry may be gone."""


async def read_tail(
    connection: AsyncConnection, redis: Redis, stream: str, position: int, after: StreamId
) -> Tail:
    """Read and sort the entries after an id, at most `_PAGE`.

    ``position`` is the publish number up to which the stream is known.
    """
    last, entries = await out_stream.entries_after(redis, stream, after, _PAGE)
    if not entries:
        return Tail(0, (), (), None, last)
    known = {
        change.number: change.body
        for change in await outbox.numbered_between(connection, position, entries[-1].id[0], _PAGE)
    }
    now = await read_clock(connection)
    ours, changes = 0, list[tuple[int, PublishedChange, bytes]]()
    foreign = list[Foreign]()
    for entry in entries:
        number, sequence = entry.id
        if sequence == 0 and entry.body is not None and known.get(number) == entry.body:
            ours = number
            continue
        try:
            changes.append((number, _change(entry, now), entry.body or b""))
        except NotOursError as error:
            foreign.append(Foreign(entry, str(error)))
    room = _MOST_KEPT - (await connection.execute(_COUNT)).scalar_one() if changes else 0
    sequences = await _published_sequences(connection, changes, position)
    unknown = list[tuple[int, PublishedChange, bytes]]()
    for number, change, body in changes:
        reason = None
        if change.sequence <= sequences.get(change.customer_id, 0):
            reason = "this customer's changes up to that sequence were published before"
        elif len(unknown) >= room:
            reason = f"more than {_MOST_KEPT:,} unknown changes are on the stream"
        if reason is None:
            unknown.append((number, change, body))
        else:
            whole = StreamEntry((number, 0), len(body), body, body[: out_stream.SAMPLE_BYTES])
            foreign.append(Foreign(whole, reason))
    foreign.sort(key=lambda each: each.entry.id)
    return Tail(ours, unknown, foreign, entries[-1].id, last)


def _change(entry: StreamEntry, now: datetime) -> PublishedChange:
    number, sequence = entry.id
    if entry.body is None:
        msg = "it does not have the form of a segment change"
        raise NotOursError(msg)
    if sequence or number > MOST_NUMBER:
        msg = "its id is none that the relay gives"
        raise NotOursError(msg)
    return read_change(entry.body, now)


async def _published_sequences(
    connection: AsyncConnection,
    changes: Sequence[tuple[int, PublishedChange, bytes]],
    position: int,
) -> dict[int, int]:
    ids = sorted({change.customer_id for _, change, _ in changes})
    if not ids:
        return {}
    rows = await connection.execute(_SEQUENCES, {"ids": ids, "position": position})
    return {row.customer_id: row.sequence for row in rows}


async def take_in(connection: AsyncConnection, tail: Tail, position: int) -> int:
    """Keep the unknown changes, and number on beyond the page; return the new position.

    If the page's last id leaves no room for more, the position is that of the last entry before.
    """
    if tail.unknown:
        await connection.execute(
            _KEEP,
            {
                "numbers": [number for number, _, _ in tail.unknown],
                "customers": [change.customer_id for _, change, _ in tail.unknown],
                "bodies": [body for _, _, body in tail.unknown],
            },
        )
    numbers = [number for number, _, _ in tail.unknown]
    numbers += [each.entry.id[0] for each in tail.foreign]
    above = max((number for number in numbers if number <= MOST_NUMBER), default=0)
    if above > max(position, tail.ours):
        await outbox.renumber_beyond(connection, max(position, tail.ours), above)
        return above
    if tail.ours > position:
        await outbox.mark_published(connection, tail.ours)
    return max(position, tail.ours)
