"""Replay dead letters after a fix: judge them again, and apply those that are accepted now.

This does not change the ingest counters, because the entry was read once, and dead-lettered then.
The audit has the result.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from service.core.batch import Outcome
from service.core.dead_letters import Fate
from service.core.envelope import Entry
from service.core.judge import Terms, judge
from service.core.order_event import OrderEvent, Reason, Refusal
from service.db.accounts.audit import note
from service.db.customers.letter_index import count_fates, measure
from service.db.engine import in_transaction, refused_data
from service.db.ingest.ingest import storable_error
from service.db.ingest.owners import OwnerChangedError
from service.db.ingest.shop_orders import apply_with_facts

PAGE = 500
"""Dead letters replayed per transaction."""
PAGE_BYTES = 8_388_608
"""The content of these, all together. A letter may be alone in its transaction."""

# A letter that is not measured yet is measured in the transaction that replays it. Until then, its
# size is estimated as in `service.db.customers.letter_index`.
_NEXT_IDS = text("""
WITH page AS (
  SELECT id, coalesce(stored, 50 * pg_column_size(field_values)) AS stored FROM dead_letters
  WHERE (CAST(:reason AS text) IS NULL OR reason = :reason) AND id > :after
  ORDER BY id LIMIT :most
)
SELECT id FROM (
  SELECT id, sum(stored) OVER (ORDER BY id) AS upto, row_number() OVER (ORDER BY id) AS place
  FROM page
) counted WHERE place = 1 OR upto <= :bytes ORDER BY id
""")
_LOCK = text("""
SELECT id, stream_id, partition, field_names, field_values, size, stored, reason, error
FROM dead_letters WHERE id = ANY(:ids) ORDER BY id FOR UPDATE
""")
_REMOVE = text("DELETE FROM dead_letters WHERE id = ANY(:ids)")
_COUNT_ATTEMPT = text("""
UPDATE dead_letters SET attempts = attempts + 1, last_seen = clock_timestamp(),
  reason = :reason, error = :error
WHERE id = :id
""")


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


async def _next_ids(connection: AsyncConnection, reason: str | None, after: int) -> list[int]:
    """Return the next ids above ``after`` of one reason, or of all reasons, in rising order.

    They are as many as one transaction replays.
    """
    parameters = {"reason": reason, "after": after, "most": PAGE, "bytes": PAGE_BYTES}
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
            ids = await _next_ids(connection, reason, after)
        if not ids:
            return result, None
        result.add(await replay(engine, actor, ids, terms))
        after = ids[-1]
        if most is not None and result.letters >= most:
            return result, after


async def _replay(
    connection: AsyncConnection,
    actor: str,
    letter_ids: Sequence[int],
    terms: Terms,
    known_refusal: Refusal | None,
) -> ReplayResult:
    result, events, accepted = ReplayResult(), list[OrderEvent](), list[int]()
    await measure(connection, letter_ids, terms.max_bytes)
    for row in (await connection.execute(_LOCK, {"ids": letter_ids})).all():
        verdict = known_refusal or _judge_again(row, terms)
        if isinstance(verdict, Refusal):
            result.refused[row.id] = verdict
        else:
            events.append(verdict)
            accepted.append(row.id)
    if events:
        result.accepted = await apply_with_facts(connection, events)
        # A conflict is counted as stale or applied, too. Here each letter counts once.
        del result.accepted[Outcome.CONFLICT]
        await connection.execute(_REMOVE, {"ids": accepted})
        await count_fates(connection, {Fate.REPLAYED: len(accepted)})
    if result.refused:
        await connection.execute(
            _COUNT_ATTEMPT,
            [
                {"id": letter_id, "reason": refusal.reason.value, "error": storable_error(refusal)}
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
    """Judge the stored entry. If it was emptied or cut, refuse it for the reason that it has."""
    if not row.field_names:
        return Refusal(Reason(row.reason), row.error)
    if row.stored < row.size:
        return Refusal(
            Reason(row.reason),
            f"the entry had {row.size:,} bytes, and only the first {row.stored:,} were kept, so it "
            "cannot be retried; publish the order again, without its items or attachments",
        )
    fields = dict(zip(row.field_names, row.field_values, strict=True))
    return judge(Entry(row.stream_id, fields, row.partition), terms, datetime.now(UTC))
