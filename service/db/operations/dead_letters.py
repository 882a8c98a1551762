"""Dead letters: list them and read them, never more of them than is shown."""

from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.envelope import MOST_FIELDS
from service.db.customers.order_flags import IS_REFUSED_UPDATE

SHOWN_BYTES = 1_048_576
"""How much of a letter's fields is shown, all together."""
WHOLE = 2**30
"""More bytes than a letter can hold."""
SELECTED = f"""
(CAST(:reason AS text) IS NULL OR reason = :reason)
AND first_seen < coalesce(CAST(:seen_before AS timestamptz), 'infinity')
AND (CAST(:refused_update AS boolean) IS NULL OR {IS_REFUSED_UPDATE} = :refused_update)
"""
"""A condition on a dead letter; its parameters are those of `Selection`."""

_COLUMNS = f"""
id, stream_id, partition, reason, error, attempts, first_seen, last_seen, size, stored,
NULLIF(order_id, '') AS order_id, {IS_REFUSED_UPDATE} AS refused_update
"""
_LIST = text(f"""
SELECT {_COLUMNS} FROM dead_letters
WHERE id < coalesce(CAST(:before AS bigint), 9223372036854775807) AND {SELECTED}
ORDER BY id DESC LIMIT :most
""")
_COUNT = text(f"SELECT count(*) FROM dead_letters WHERE {SELECTED}")
_SUMMARY = text("""
SELECT reason, count(*) AS letters, min(first_seen) AS first_seen, max(last_seen) AS last_seen
FROM dead_letters GROUP BY reason ORDER BY letters DESC, reason
""")
_READ = text(f"SELECT {_COLUMNS} FROM dead_letters WHERE id = :id")
_FIELDS = text(f"""
SELECT substring(name FROM 1 FOR greatest(0, CAST(:shown AS int) - shown_before)) AS name,
  substring(value FROM 1 FOR
    greatest(0, CAST(:shown AS int) - shown_before - octet_length(name))) AS value,
  octet_length(value) AS size
FROM (
  SELECT name, value, place,
    CAST(coalesce(sum(octet_length(name) + octet_length(value)) OVER (
      ORDER BY place ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS int) AS shown_before
  FROM dead_letters, unnest(field_names, field_values) WITH ORDINALITY AS f (name, value, place)
  WHERE id = :id AND place <= {MOST_FIELDS}
) fields ORDER BY place
""")
_FIELD = text("SELECT field_values[:place] FROM dead_letters WHERE id = :id")


class NoSuchLetterError(Exception):
    """No dead letter has this id. It may have been replayed, discarded or dropped."""


class Selection(NamedTuple):
    """Which dead letters are meant."""

    reason: str | None = None
    """None means every reason."""
    seen_before: datetime | None = None
    """Only those that were first seen before this time."""
    refused_update: bool | None = None
    """Only those that leave a known order in an older state, or only the others."""


class Letter(NamedTuple):
    """A dead letter without its fields."""

    id: int
    stream_id: str
    partition: int | None
    """The partition that it was read from; None for the stream that is not partitioned."""
    reason: str
    error: str
    attempts: int
    first_seen: datetime
    last_seen: datetime
    size: int | None
    """Bytes of all names and values together, as they were published. None for a moment after an
    upgrade: not measured yet."""
    stored: int | None
    """How many of them are stored. Fewer than all if the entry was too large, or was erased."""
    order_id: str | None
    """The order that it tells of. None: it cannot be read, or a worker has not looked yet."""
    refused_update: bool
    """That order is known, in an older state than the one that was refused."""


class StoredField(NamedTuple):
    """A field of the entry."""

    name: bytes
    value: bytes
    """The value, or its beginning if it is large."""
    size: int
    """Bytes of the value that are stored."""


class ReasonTally(NamedTuple):
    """The number of dead letters with one reason, and when they were seen."""

    reason: str
    letters: int
    first_seen: datetime
    last_seen: datetime


async def find(
    connection: AsyncConnection, selection: Selection, most: int, before: int | None = None
) -> tuple[list[Letter], int]:
    """Return selected dead letters, the newest first, and how many are selected in all.

    Only ids below ``before`` are listed.
    """
    selected = selection._asdict()
    rows = await connection.execute(_LIST, {**selected, "most": most, "before": before})
    letters = [_letter(row) for row in rows]
    return letters, await count(connection, selection)


async def count(connection: AsyncConnection, selection: Selection) -> int:
    """Return how many dead letters are selected."""
    return int((await connection.execute(_COUNT, selection._asdict())).scalar_one())


async def summary(connection: AsyncConnection) -> list[ReasonTally]:
    """Return the number of dead letters per reason, the most frequent first."""
    return [ReasonTally(*row) for row in await connection.execute(_SUMMARY)]


async def read(
    connection: AsyncConnection, letter_id: int, shown: int | None = None
) -> tuple[Letter, list[StoredField]]:
    """Return a dead letter and the first ``shown`` bytes of its fields, all together.

    Raises NoSuchLetterError.
    """
    row = (await connection.execute(_READ, {"id": letter_id})).one_or_none()
    if row is None:
        raise NoSuchLetterError
    parameters = {"id": letter_id, "shown": SHOWN_BYTES if shown is None else shown}
    fields = await connection.execute(_FIELDS, parameters)
    return _letter(row), [StoredField(*columns) for columns in fields]


async def read_value(connection: AsyncConnection, letter_id: int, place: int) -> bytes | None:
    """Return all that is stored of one value; None if there is none. The first place is 0."""
    value: bytes | None = await connection.scalar(_FIELD, {"id": letter_id, "place": place + 1})
    return value


def _letter(row: Row[Any]) -> Letter:
    return Letter(*(getattr(row, name) for name in Letter._fields))
