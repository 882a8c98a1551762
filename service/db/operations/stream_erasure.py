"""Delete the entries of erased people from the streams of orders, once every group has read them.

Nothing that names the person is stored for this. An entry is recognised by what an erasure leaves:
the salted hashes of e-mails, orders marked as erased, and dead letters that were emptied. Each
erasure makes a search begin at the first entry. An event that arrives late makes it go on to the
end. If nobody was ever erased, no stream is read.
"""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain
from typing import Any

from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.envelope import Entry
from service.core.judge import Terms, judge
from service.core.order_event import OrderEvent
from service.core.partitions import OrdersStream
from service.core.personal_identifiers import find
from service.core.stream_ids import NO_ID, StreamId, parse, write
from service.db.columns import pack, unpack
from service.db.customers.erasure_keys import email_hash, identifier_hash, pseudonym_sql
from service.db.locks import AdvisoryLock, try_lock
from service.streams.delete import delete_acknowledged, read_acknowledged

_REDIS_SECONDS = 10.0
"""How long a step waits for Redis."""
_EMAIL_TRAIT = "email:"

_REQUESTED = text("""
SELECT i.erasures, i.late_events, s.erasures AS searched_erasures,
  s.late_events AS searched_late_events, s.after_id, s.until_id
FROM installation i LEFT JOIN stream_searches s ON s.stream = :stream
""")
_STORE = text("""
INSERT INTO stream_searches AS s (stream, erasures, late_events, after_id, until_id, entries)
VALUES (:stream, :erasures, :late_events, :after_id, :until_id, :entries)
ON CONFLICT (stream) DO UPDATE SET erasures = excluded.erasures,
  late_events = excluded.late_events, after_id = excluded.after_id, until_id = excluded.until_id,
  entries = s.entries + excluded.entries
""")
_ACCEPTED = {
    "place": "integer",
    "order_id": "text",
    "identifier": "text",
    "alone": "boolean",
    "date_created": "timestamptz",
}
# An entry belongs to an erased person if it names them, or if its order does not belong to anybody
# because its person was erased. A customer number alone names them if it has a history only.
_OF_ERASED = text(f"""
SELECT DISTINCT n.place FROM ({unpack(_ACCEPTED)}) n
WHERE EXISTS (
    SELECT FROM erased e
    WHERE e.email_hash = {identifier_hash("n.identifier")} AND n.date_created <= e.erased_at)
  OR EXISTS (
    SELECT FROM orders o WHERE o.id IN (n.order_id, {pseudonym_sql("n.order_id")})
      AND o.erased AND o.customer_id IS NULL)
  OR (n.identifier ~ '^customer:' AND n.alone
    AND NOT EXISTS (SELECT FROM customers c WHERE c.id = CAST(substr(n.identifier, 10) AS bigint))
    AND NOT EXISTS (SELECT FROM identifiers i WHERE i.identifier = n.identifier)
    AND EXISTS (
      SELECT FROM segment_changes h
      WHERE h.customer_id = CAST(substr(n.identifier, 10) AS bigint)))
""")
_REFUSED = {"place": "integer", "stream_id": "text", "email_key": "text"}
_REFUSED_OF_ERASED = text(f"""
SELECT DISTINCT n.place FROM ({unpack(_REFUSED)}) n
WHERE EXISTS (SELECT FROM erased e WHERE e.email_hash = {email_hash("n.email_key")})
  OR EXISTS (
    SELECT FROM dead_letters d WHERE d.stream_id = n.stream_id AND d.field_names = '{{}}'
      AND d.partition IS NOT DISTINCT FROM CAST(:partition AS integer))
""")


async def search_page(
    connection: AsyncConnection, redis: Redis, stream: OrdersStream, group: str, terms: Terms
) -> int | None:
    """Search the next page of a stream; the caller commits. Return how many entries were deleted.

    None if nothing is left to search, if the rest was not read by every group yet, or if another
    replica searches.
    """
    requested = (await connection.execute(_REQUESTED, {"stream": stream.name})).one()
    if not requested.erasures or not await try_lock(connection, AdvisoryLock.STREAM_ERASURE):
        return None
    after, until = NO_ID, None
    if requested.searched_erasures == requested.erasures:
        after = parse(requested.after_id)
        if requested.searched_late_events == requested.late_events:
            until = parse(requested.until_id)
            if after >= until:
                return None
    async with asyncio.timeout(_REDIS_SECONDS):
        page = await read_acknowledged(redis, stream.name, group, after, terms.max_bytes)
        ids = await _of_erased(connection, page.entries, stream.partition, terms)
        deleted = 0
        if ids:
            deleted = await delete_acknowledged(redis, stream.name, group, ids)
    if page.entries or (until is None and page.last > NO_ID):
        last: StreamId = parse(page.entries[-1].id) if page.entries else after
        await connection.execute(
            _STORE,
            {
                "stream": stream.name,
                "erasures": requested.erasures,
                "late_events": requested.late_events,
                "after_id": write(last),
                "until_id": write(until or page.last),
                "entries": deleted,
            },
        )
    return deleted if page.entries else None


async def _of_erased(
    connection: AsyncConnection, entries: Sequence[Entry], partition: int | None, terms: Terms
) -> list[str]:
    """Return the ids of the entries that belong to erased people."""
    now = datetime.now(UTC)
    verdicts = [judge(entry, terms, now) for entry in entries]
    accepted = [
        (place, verdict)
        for place, verdict in enumerate(verdicts)
        if isinstance(verdict, OrderEvent)
    ]
    found = set[int]()
    if accepted:
        rows = [
            (place, event.order_id, identifier, len(identifiers) == 1, event.date_created)
            for place, event in accepted
            for identifiers in (event.customer.identifiers if event.customer else (None,),)
            for identifier in identifiers
        ]
        columns = dict(zip(_ACCEPTED, zip(*rows, strict=True), strict=True))
        found.update((await connection.execute(_OF_ERASED, pack(columns))).scalars())
    refused = [
        (place, entries[place].id, email)
        for place, verdict in enumerate(verdicts)
        if not isinstance(verdict, OrderEvent)
        for email in chain((None,), _emails(entries[place]))
    ]
    if refused:
        places, ids, emails = zip(*refused, strict=True)
        parameters: dict[str, Any] = pack({"place": places, "stream_id": ids, "email_key": emails})
        parameters["partition"] = partition
        of_erased = await connection.execute(_REFUSED_OF_ERASED, parameters)
        found.update(of_erased.scalars())
    return [entries[place].id for place in sorted(found)]


def _emails(entry: Entry) -> Iterator[str]:
    """Yield the e-mails in a refused entry, in whatever way they are written."""
    found = find([*entry.fields, *entry.fields.values()])
    for trait in found.identifiers | found.hints:
        if trait.startswith(_EMAIL_TRAIT):
            yield trait.removeprefix(_EMAIL_TRAIT)
