"""Dead letters: found, looked at, replayed after a fix, or discarded with a reason.

The counters of what was read stay as they are when one is replayed: the entry was read once, and
dead-lettered then. What a replay came to is in the audit.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
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
"""Of each field, as much as this is shown."""
WHOLE = 2**30
"""As much as a field can hold."""
PAGE = 500
"""Replayed per transaction."""

Judge = Callable[[Entry], OrderEvent | Refusal]

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
_OF_REASON = text("""
SELECT id FROM dead_letters
WHERE (CAST(:reason AS text) IS NULL OR reason = :reason) AND id > :after
ORDER BY id LIMIT :most
""")
_TAKE = text("""
SELECT id, stream_id, partition, field_names, field_values, reason, error
FROM dead_letters WHERE id = ANY(:ids) ORDER BY id FOR UPDATE
""")
_REMOVE = text("DELETE FROM dead_letters WHERE id = ANY(:ids)")
_KEEP = text("""
UPDATE dead_letters SET attempts = attempts + 1, last_seen = clock_timestamp(),
  reason = :reason, error = :error
WHERE id = :id
""")
_DISCARD = text("DELETE FROM dead_letters WHERE id = :id RETURNING reason")


class NoSuchLetterError(Exception):
    """There is no dead letter with this id (any more)."""


class Letter(NamedTuple):
    """A dead letter, without what it holds."""

    id: int
    stream_id: str
    partition: int | None
    """Of which it was read; None: the stream that is not partitioned."""
    reason: str
    error: str
    attempts: int
    first_seen: datetime
    last_seen: datetime
    size: int
    """Bytes in all fields together."""


class StoredField(NamedTuple):
    """A field of the entry; of a large value, its beginning."""

    name: bytes
    value: bytes
    size: int


class ReasonTally(NamedTuple):
    """The dead letters of one reason."""

    reason: str
    letters: int
    first_seen: datetime
    last_seen: datetime


@dataclass
class Replayed:
    """What replaying letters came to."""

    accepted: Counter[Outcome] = field(default_factory=Counter)
    """Applied, stale or duplicate: these letters are gone."""
    refused: dict[int, Refusal] = field(default_factory=dict)
    """By id: these stay, with one more attempt."""

    def add(self, other: "Replayed") -> None:
        """Count another replay with this one."""
        self.accepted += other.accepted
        self.refused |= other.refused

    @property
    def letters(self) -> int:
        """How many were replayed."""
        return self.accepted.total() + len(self.refused)


def judge_by(store_currency: str, max_bytes: int) -> Judge:
    """Judge as a worker with this configuration would now."""
    return partial(judge, terms=Terms(store_currency, max_bytes), now=datetime.now(UTC))


async def find(
    connection: AsyncConnection, reason: str | None, most: int, before: int | None = None
) -> tuple[list[Letter], int]:
    """List those with ids below ``before``, the newest first, and count all of the reason."""
    rows = await connection.execute(_LIST, {"reason": reason, "most": most, "before": before})
    letters = [_letter(row) for row in rows]
    total = await connection.execute(_COUNT, {"reason": reason})
    return letters, int(total.scalar_one())


async def summary(connection: AsyncConnection) -> list[ReasonTally]:
    """Count them per reason, the most frequent first."""
    return [ReasonTally(*row) for row in await connection.execute(_SUMMARY)]


async def read(
    connection: AsyncConnection, letter_id: int, shown: int | None = None
) -> tuple[Letter, list[StoredField]]:
    """Read one and what it holds; of each field ``shown`` bytes. Raises NoSuchLetterError."""
    found = await connection.execute(_READ, {"id": letter_id, "shown": shown or SHOWN_BYTES})
    row = found.one_or_none()
    if row is None:
        raise NoSuchLetterError
    return _letter(row), [
        StoredField(*part) for part in zip(row.names, row.shown, row.sizes, strict=True)
    ]


async def ids_of(
    connection: AsyncConnection, reason: str | None, after: int, most: int
) -> list[int]:
    """Give ids above ``after`` of a reason, or of all, rising."""
    parameters = {"reason": reason, "after": after, "most": most}
    return list((await connection.execute(_OF_REASON, parameters)).scalars())


async def replay(
    engine: AsyncEngine, actor: str, letter_ids: Sequence[int], again: Judge
) -> Replayed:
    """Judge letters again and apply what is accepted now, in one transaction.

    In the same transaction the accepted ones are removed; the others stay, one attempt and
    perhaps another reason richer. If the database refuses the data of one, halves are tried, so
    that only that one stays. Letters that are gone by now are left out of the result.
    """

    async def work(connection: AsyncConnection) -> Replayed:
        return await _replay(connection, actor, letter_ids, again)

    try:
        return await in_transaction(engine, work, again=(OwnerChangedError,))
    except DBAPIError as error:
        if not refused_data(error):
            raise
        reason = type(error.orig).__name__
    if len(letter_ids) == 1:
        refusal = Refusal(Reason.NOT_APPLICABLE, f"the database refused it: {reason}")
        return await replay(engine, actor, letter_ids, lambda _: refusal)
    middle, replayed = len(letter_ids) // 2, Replayed()
    for half in (letter_ids[:middle], letter_ids[middle:]):
        replayed.add(await replay(engine, actor, half, again))
    return replayed


async def replay_all(
    engine: AsyncEngine,
    actor: str,
    reason: str | None,
    again: Judge,
    *,
    after: int = 0,
    most: int | None = None,
) -> tuple[Replayed, int | None]:
    """Replay all of a reason (None: all there are) with ids above ``after``, page by page.

    Returns the result and, when it stopped after ``most`` or a few more, the id to go on after.
    """
    replayed = Replayed()
    while True:
        async with engine.connect() as connection:
            ids = await ids_of(connection, reason, after, PAGE)
        if ids:
            replayed.add(await replay(engine, actor, ids, again))
            after = ids[-1]
        if len(ids) < PAGE:
            return replayed, None
        if most is not None and replayed.letters >= most:
            return replayed, after


async def discard(connection: AsyncConnection, actor: str, letter_id: int, why: str) -> None:
    """Remove one; id, reason code and ``why`` stay in the audit. Raises NoSuchLetterError."""
    reason = (await connection.execute(_DISCARD, {"id": letter_id})).scalar()
    if reason is None:
        raise NoSuchLetterError
    details = {"deadLetter": str(letter_id), "reasonCode": reason, "reason": why}
    await note(connection, actor, "dead-letter.discarded", details=details)


async def _replay(
    connection: AsyncConnection, actor: str, letter_ids: Sequence[int], again: Judge
) -> Replayed:
    replayed, events, accepted = Replayed(), list[OrderEvent](), list[int]()
    for row in (await connection.execute(_TAKE, {"ids": letter_ids})).all():
        verdict = _judge_again(row, again)
        if isinstance(verdict, Refusal):
            replayed.refused[row.id] = verdict
        else:
            events.append(verdict)
            accepted.append(row.id)
    if events:
        counted = await apply_events(connection, events)
        del counted[Outcome.CONFLICT]  # those are counted as stale or applied, too
        replayed.accepted = counted
        await connection.execute(_REMOVE, {"ids": accepted})
    if replayed.refused:
        await connection.execute(
            _KEEP,
            [
                {"id": letter_id, "reason": refusal.reason.value, "error": _storable(refusal)}
                for letter_id, refusal in replayed.refused.items()
            ],
        )
    if replayed.letters:
        outcomes: Mapping[str, Any] = {
            "deadLetters": [str(letter_id) for letter_id in letter_ids],
            **{outcome.value: count for outcome, count in replayed.accepted.items()},
            Outcome.DEAD_LETTERED.value: len(replayed.refused),
        }
        await note(connection, actor, "dead-letter.replayed", details=outcomes)
    return replayed


def _judge_again(row: Row[Any], again: Judge) -> OrderEvent | Refusal:
    """Hold it against the contract; one that was emptied with an erased person stays as it is."""
    if not row.field_names:
        return Refusal(Reason(row.reason), row.error)
    fields = dict(zip(row.field_names, row.field_values, strict=True))
    return again(Entry(row.stream_id, fields, row.partition))


def _storable(refusal: Refusal) -> str:
    return refusal.message.replace("\x00", "\\0")


def _letter(row: Row[Any]) -> Letter:
    return Letter(*(getattr(row, name) for name in Letter._fields))
