"""Dead letters: list and read them, replay them after a fix, discard them with a reason.

Replaying a dead letter judges it again and applies it if it is accepted now. It does not change the
ingest counters, because the entry was read once, and dead-lettered then. The audit has the result.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import Row, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from service.core.batch import Outcome
from service.core.envelope import Entry
from service.core.judge import Terms, judge
from service.core.order_event import OrderEvent, Reason, Refusal
from service.db.accounts.audit import note
from service.db.engine import in_transaction, refused_data
from service.db.ingest.apply import apply_events
from service.db.ingest.owners import OwnerChangedError

SHOWN_BYTES = 1_048_576
"""The number of bytes of a field's value that are shown."""
WHOLE = 2**30
"""More bytes than a field can hold."""
PAGE = 500
"""Dead letters replayed per transaction."""

_COLUMNS = """
id, stream_id, partition, reason, error, attempts, first_seen, last_seen,
(SELECT coalesce(sum(octet_length(part)), 0) FROM unnest(field_names || field_values) part) AS size
"""
_LIST = text(f"""
SELECT {_COLUMNS} FROM dead_letters
WHERE id < coalesce(CAST(:before AS bigint), 9223372036854775807)
  AND (CAST(:reason AS text) IS NULL OR reason = :reason)
ORDER BY id DESC LIMIT :most
""")
_COUNT = text(
    "SELECT count(*) FROM dead_letters WHERE CAST(:reason AS text) IS NULL OR reason = :reason"
)
_SUMMARY = text("""
SELECT reason, count(*) AS letters, min(first_seen) AS first_seen, max(last_seen) AS last_seen
FROM dead_letters GROUP BY reason ORDER BY letters DESC, reason
""")
_READ = text(f"""
SELECT {_COLUMNS},
  ARRAY(SELECT substring(n FROM 1 FOR :shown) FROM unnest(field_names) WITH ORDINALITY u(n, place)
        ORDER BY place) AS names,
  ARRAY(SELECT substring(v FROM 1 FOR :shown) FROM unnest(field_values) WITH ORDINALITY u(v, place)
        ORDER BY place) AS shown,
  ARRAY(SELECT octet_length(v) FROM unnest(field_values) WITH ORDINALITY u(v, place)
        ORDER BY place) AS sizes
FROM dead_letters WHERE id = :id
""")
_NEXT_IDS = text("""
SELECT id FROM dead_letters
WHERE (CAST(:reason AS text) IS NULL OR reason = :reason) AND id > :after
ORDER BY id LIMIT :most
""")
_LOCK = text("""
SELECT id, stream_id, partition, field_names, field_values, reason, error
FROM dead_letters WHERE id = ANY(:ids) ORDER BY id FOR UPDATE
""")
_REMOVE = text("DELETE FROM dead_letters WHERE id = ANY(:ids)")
_COUNT_ATTEMPT = text("""
UPDATE dead_letters SET attempts = attempts + 1, last_seen = clock_timestamp(),
  reason = :reason, error = :error
WHERE id = :id
""")
_DISCARD = text("DELETE FROM dead_letters WHERE id = :id RETURNING reason")


class NoSuchLetterError(Exception):
    """No dead letter has this id. It may have been replayed or discarded."""


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
    size: int
    """Bytes of all names and values together."""


class StoredField(NamedTuple):
    """A field of the entry."""

    name: bytes
    value: bytes
    """The value, or its beginning if it is large."""
    size: int
    """Bytes of the whole value."""


class ReasonTally(NamedTuple):
    """The number of dead letters with one reason, and when they were seen."""

    reason: str
    letters: int
    first_seen: datetime
    last_seen: datetime


@dataclass
class ReplayResult:
    """The result of replaying dead letters."""

    accepted: Counter[Outcome] = field(default_factory=Counter)
    """How many were applied, stale or duplicate. These letters are removed."""
    refused: dict[int, Refusal] = field(default_factory=dict)
    """The refusals by id. These letters stay, with one more attempt."""

    def add(self, other: "ReplayResult") -> None:
        """Add the result of another replay to this one."""
        self.accepted += other.accepted
        self.refused |= other.refused

    @property
    def letters(self) -> int:
        """Return how many were replayed."""
        return self.accepted.total() + len(self.refused)


async def find(
    connection: AsyncConnection, reason: str | None, most: int, before: int | None = None
) -> tuple[list[Letter], int]:
    """Return dead letters of a reason, the newest first, and how many there are in all.

    None as the reason means every reason. Only ids below ``before`` are listed.
    """
    rows = await connection.execute(_LIST, {"reason": reason, "most": most, "before": before})
    letters = [_letter(row) for row in rows]
    total = await connection.execute(_COUNT, {"reason": reason})
    return letters, int(total.scalar_one())


async def summary(connection: AsyncConnection) -> list[ReasonTally]:
    """Return the number of dead letters per reason, the most frequent first."""
    return [ReasonTally(*row) for row in await connection.execute(_SUMMARY)]


async def read(
    connection: AsyncConnection, letter_id: int, shown: int | None = None
) -> tuple[Letter, list[StoredField]]:
    """Return a dead letter and the first ``shown`` bytes of each of its fields.

    Raises NoSuchLetterError.
    """
    result = await connection.execute(_READ, {"id": letter_id, "shown": shown or SHOWN_BYTES})
    row = result.one_or_none()
    if row is None:
        raise NoSuchLetterError
    return _letter(row), [
        StoredField(*columns) for columns in zip(row.names, row.shown, row.sizes, strict=True)
    ]


async def _next_ids(
    connection: AsyncConnection, reason: str | None, after: int, most: int
) -> list[int]:
    """Return the next ids above ``after`` of one reason, or of all reasons, in rising order."""
    parameters = {"reason": reason, "after": after, "most": most}
    return list((await connection.execute(_NEXT_IDS, parameters)).scalars())


async def replay(
    engine: AsyncEngine, actor: str, letter_ids: Sequence[int], terms: Terms
) -> ReplayResult:
    """Judge dead letters again, as a worker would now, and apply the accepted ones.

    It is one transaction. The accepted letters are removed. The others stay, with one more attempt
    and the reason of the new refusal. If the database refuses the data of a letter, each half of
    the letters is tried alone, so that in the end only this letter stays. Letters that are gone by
    now are not part of the result.
    """
    try:
        return await in_transaction(
            engine, _replay, actor, letter_ids, terms, None, retry_on=(OwnerChangedError,)
        )
    except DBAPIError as error:
        if not refused_data(error):
            raise
        refused_by = type(error.orig).__name__
    if len(letter_ids) == 1:
        refusal = Refusal(Reason.NOT_APPLICABLE, f"the database refused it: {refused_by}")
        return await in_transaction(engine, _replay, actor, letter_ids, terms, refusal)
    middle, result = len(letter_ids) // 2, ReplayResult()
    for half in (letter_ids[:middle], letter_ids[middle:]):
        result.add(await replay(engine, actor, half, terms))
    return result


async def replay_all(
    engine: AsyncEngine,
    actor: str,
    reason: str | None,
    terms: Terms,
    *,
    after: int = 0,
    most: int | None = None,
) -> tuple[ReplayResult, int | None]:
    """Replay the dead letters of a reason, or of all reasons, with ids above ``after``.

    Return the result and the id after which to go on; None if all were replayed. It works page by
    page, and stops after the first page that brings it to ``most``.
    """
    result = ReplayResult()
    while True:
        async with engine.connect() as connection:
            ids = await _next_ids(connection, reason, after, PAGE)
        if ids:
            result.add(await replay(engine, actor, ids, terms))
            after = ids[-1]
        if len(ids) < PAGE:
            return result, None
        if most is not None and result.letters >= most:
            return result, after


async def discard(connection: AsyncConnection, actor: str, letter_id: int, why: str) -> None:
    """Delete a dead letter. Its id, its reason code and ``why`` stay in the audit.

    Raises NoSuchLetterError.
    """
    reason = (await connection.execute(_DISCARD, {"id": letter_id})).scalar()
    if reason is None:
        raise NoSuchLetterError
    details = {"deadLetter": str(letter_id), "reasonCode": reason, "reason": why}
    await note(connection, actor, "dead-letter.discarded", details=details)


async def _replay(
    connection: AsyncConnection,
    actor: str,
    letter_ids: Sequence[int],
    terms: Terms,
    known_refusal: Refusal | None,
) -> ReplayResult:
    result, events, accepted = ReplayResult(), list[OrderEvent](), list[int]()
    for row in (await connection.execute(_LOCK, {"ids": letter_ids})).all():
        verdict = known_refusal or _judge_again(row, terms)
        if isinstance(verdict, Refusal):
            result.refused[row.id] = verdict
        else:
            events.append(verdict)
            accepted.append(row.id)
    if events:
        result.accepted = await apply_events(connection, events)
        # A conflict is counted as stale or applied, too. Here each letter counts once.
        del result.accepted[Outcome.CONFLICT]
        await connection.execute(_REMOVE, {"ids": accepted})
    if result.refused:
        await connection.execute(
            _COUNT_ATTEMPT,
            [
                {"id": letter_id, "reason": refusal.reason.value, "error": _storable(refusal)}
                for letter_id, refusal in result.refused.items()
            ],
        )
    if result.letters:
        outcomes: Mapping[str, Any] = {
            "deadLetters": [str(letter_id) for letter_id in letter_ids],
            **{outcome.value: count for outcome, count in result.accepted.items()},
            Outcome.DEAD_LETTERED.value: len(result.refused),
        }
        await note(connection, actor, "dead-letter.replayed", details=outcomes)
    return result


def _judge_again(row: Row[Any], terms: Terms) -> OrderEvent | Refusal:
    """Judge the stored entry. If an erasure emptied it, repeat the refusal that it has."""
    if not row.field_names:
        return Refusal(Reason(row.reason), row.error)
    fields = dict(zip(row.field_names, row.field_values, strict=True))
    return judge(Entry(row.stream_id, fields, row.partition), terms, datetime.now(UTC))


def _storable(refusal: Refusal) -> str:
    # Postgres has no text with the character U+0000.
    return refusal.message.replace("\x00", "\\0")


def _letter(row: Row[Any]) -> Letter:
    return Letter(*(getattr(row, name) for name in Letter._fields))
