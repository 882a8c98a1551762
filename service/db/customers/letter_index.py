"""Store whom each dead letter names, and which order it tells of; measure and cut letters.

A small letter is indexed in the transaction that stores it. A larger one would hold up the batch.
So workers do it soon afterwards, a few letters at a time. They also measure and cut the letters
that workers of an earlier release stored, of whatever size.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.dead_letters import Fate, digest
from service.core.envelope import KEPT_BYTES, MOST_FIELDS, Entry, beginning
from service.core.told_order import told_order
from service.db import installation
from service.db.customers.personal_data import content, find_in, hashes
from service.db.schema import COUNTER_SLOTS

_LETTERS_AT_ONCE = 50
_BYTES_AT_ONCE = 1_048_576
"""The content that is looked through in one transaction; a second at most."""

# The size of a letter that is not measured yet is estimated: Postgres compresses by 50 at most,
# nearly always.
_WAITING = text(f"""
WITH next AS (
  SELECT id, size IS NULL AS unmeasured,
         coalesce(stored, 50 * pg_column_size(field_values)) AS stored
  FROM dead_letters WHERE size IS NULL OR identifiers IS NULL OR order_id IS NULL
  ORDER BY id LIMIT {_LETTERS_AT_ONCE} FOR UPDATE SKIP LOCKED
)
SELECT id, unmeasured FROM (
  SELECT *, sum(stored) OVER (ORDER BY id) AS upto, row_number() OVER (ORDER BY id) AS place
  FROM next
) counted WHERE place = 1 OR upto <= {_BYTES_AT_ONCE} ORDER BY id
""")
_UNMEASURED = text("""
SELECT id FROM dead_letters WHERE id = ANY(:ids) AND size IS NULL ORDER BY id FOR UPDATE
""")
_MEASURE = text("""
UPDATE dead_letters d SET size = m.size, stored = m.size
FROM (
  SELECT id, (SELECT coalesce(sum(octet_length(name)), 0) FROM unnest(field_names) AS name)
    + (SELECT coalesce(sum(octet_length(value)), 0) FROM unnest(field_values) AS value) AS size
  FROM dead_letters WHERE id = :id
) m
WHERE d.id = m.id
RETURNING d.size, cardinality(d.field_names) AS fields
""")
_BEGINNING = text(f"""
SELECT stream_id, partition, size,
  ARRAY(SELECT substring(name FROM 1 FOR {KEPT_BYTES})
        FROM unnest(field_names[1:{MOST_FIELDS}]) WITH ORDINALITY AS f (name, place)
        ORDER BY place) AS names,
  ARRAY(SELECT substring(value FROM 1 FOR {KEPT_BYTES})
        FROM unnest(field_values[1:{MOST_FIELDS}]) WITH ORDINALITY AS f (value, place)
        ORDER BY place) AS field_values
FROM dead_letters WHERE id = :id
""")
# A worker of this release may have stored the same entry meanwhile. Then the digest stays.
_CUT = text("""
UPDATE dead_letters d SET field_names = CAST(:names AS bytea[]),
  field_values = CAST(:values AS bytea[]), size = :size, stored = :stored, whole_digest = digest,
  digest = CASE WHEN EXISTS (
    SELECT FROM dead_letters o WHERE o.stream_id = d.stream_id AND o.digest = :digest
  ) THEN digest ELSE :digest END
WHERE id = :id
""")
_INDEX = text("""
UPDATE dead_letters SET identifiers = CAST(:identifiers AS bigint[]),
  hints = CAST(:hints AS bigint[]), order_id = :order_id, order_version = :order_version,
  order_changed_at = :order_changed_at
WHERE id = :id
""")
_PLACE = text("SELECT stream_id, partition, size, first_seen FROM dead_letters WHERE id = :id")
_COUNT = text(f"""
INSERT INTO dead_letter_counters AS c (fate, slot, letters)
SELECT fate, pg_backend_pid() % {COUNTER_SLOTS}, letters
FROM unnest(CAST(:fates AS text[]), CAST(:letters AS bigint[])) AS f (fate, letters)
ORDER BY fate
ON CONFLICT (fate, slot) DO UPDATE SET letters = c.letters + excluded.letters
""")


class _Waiting(NamedTuple):
    id: int
    unmeasured: bool


async def count_fates(connection: AsyncConnection, letters: Mapping[Fate, int]) -> None:
    """Count dead letters in the transaction that stores or removes them."""
    counted = {fate.value: number for fate, number in letters.items() if number}
    if counted:
        parameters = {"fates": list(counted), "letters": list(counted.values())}
        await connection.execute(_COUNT, parameters)


async def index_waiting(connection: AsyncConnection, most_bytes: int) -> int | None:
    """Measure and index the next letters that wait for it; cut those above ``most_bytes``.

    Return how many; None if none waits. Letters that somebody else has locked are left out.
    """
    waiting = [_Waiting(*row) for row in await connection.execute(_WAITING)]
    if not waiting:
        return None
    await measure(connection, [letter.id for letter in waiting if letter.unmeasured], most_bytes)
    salt = await installation.secret(connection)
    for letter in waiting:
        found = await find_in(connection, letter.id)
        if not found.complete:
            await _cut(connection, letter.id)
            found = await find_in(connection, letter.id)
        entry, seen = await _entry(connection, letter.id)
        order = await asyncio.to_thread(order_columns, entry, seen)
        await connection.execute(
            _INDEX, {"id": letter.id, **hashes(salt, found)._asdict(), **order}
        )
    return len(waiting)


async def _entry(connection: AsyncConnection, letter_id: int) -> tuple[Entry, datetime]:
    """Return the entry of a letter, as far as it is looked through, and when it was first seen."""
    fields = dict(await content(connection, letter_id))
    row = (await connection.execute(_PLACE, {"id": letter_id})).one()
    read = Entry(row.stream_id, fields, row.partition)
    return read._replace(missing=row.size - read.size), row.first_seen


async def measure(connection: AsyncConnection, letter_ids: Sequence[int], most_bytes: int) -> None:
    """Measure those of the letters that are not measured yet, and cut those above ``most_bytes``.

    This is when they begin to be counted.
    """
    unmeasured = (await connection.execute(_UNMEASURED, {"ids": letter_ids})).scalars().all()
    for letter_id in unmeasured:
        measured = (await connection.execute(_MEASURE, {"id": letter_id})).one()
        if measured.size > most_bytes or measured.fields > MOST_FIELDS:
            await _cut(connection, letter_id)
    await count_fates(connection, {Fate.STORED: len(unmeasured)})


async def _cut(connection: AsyncConnection, letter_id: int) -> None:
    """Keep only the beginning of a letter, within the database: it may be huge."""
    row = (await connection.execute(_BEGINNING, {"id": letter_id})).one()
    fields = dict(zip(row.names, row.field_values, strict=True))
    read = Entry(row.stream_id, fields, row.partition)
    kept = beginning(read._replace(missing=row.size - read.size))
    await connection.execute(_CUT, {"id": letter_id, **stored_columns(kept)})


def stored_columns(entry: Entry) -> dict[str, Any]:
    """Return the content of an entry as parameters."""
    return {
        "names": list(entry.fields),
        "values": list(entry.fields.values()),
        "size": entry.size,
        "stored": entry.size - entry.missing,
        "digest": digest(entry),
    }


def order_columns(entry: Entry, seen: datetime) -> dict[str, Any]:
    """Return which order an entry tells of that was first seen then, as parameters."""
    told = told_order(entry, seen)
    return {
        "order_id": told.order_id if told else "",
        "order_version": told and told.version,
        "order_changed_at": told and told.changed_at,
    }
