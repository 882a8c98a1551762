"""Ingest a batch of entries: apply its events, store refused entries as dead letters, count both.

All of it is one transaction, so the counters always agree with the data. Every entry that was read
and acknowledged is counted under exactly one outcome.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.batch import Outcome
from service.core.dead_letters import Fate, digest
from service.core.envelope import MOST_FIELDS, Entry, beginning
from service.core.order_event import Judged, OrderEvent, Reason, Refusal
from service.core.personal_identifiers import find
from service.core.stream_ids import StreamId, parse
from service.db import installation
from service.db.customers.letter_index import count_fates, order_columns, stored_columns
from service.db.customers.personal_data import hashes
from service.db.ingest.shop_orders import apply_with_facts
from service.db.ingest.skip_known import without_repeats
from service.db.schema import COUNTER_SLOTS
from service.db.segments.trace_context import trace_orders

SIZE_BUCKETS = (1.0, 10.0, 100.0, 500.0, 1000.0, float("inf"))
"""Upper bounds of the histogram of batch sizes, in entries."""
SECONDS_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, float("inf"))
"""Upper bounds of the histogram of batch durations, from the first statement to before the commit.
"""


_ADD_DEAD_LETTERS = text("""
INSERT INTO dead_letters (stream_id, partition, field_names, field_values, reason, error, digest,
  size, stored, whole_digest, identifiers, hints, order_id, order_version, order_changed_at)
VALUES (:stream_id, :partition, CAST(:names AS bytea[]), CAST(:values AS bytea[]), :reason, :error,
  :digest, :size, :stored, :whole_digest, CAST(:identifiers AS bigint[]), CAST(:hints AS bigint[]),
  :order_id, :order_version, :order_changed_at)
ON CONFLICT (stream_id, digest) DO UPDATE SET
  attempts = dead_letters.attempts + 1, last_seen = now(),
  reason = excluded.reason, error = excluded.error
""")
# Rows of this transaction have its time. The other rows were there before.
_NEW_DEAD_LETTERS = text("""
SELECT count(*) FROM dead_letters
WHERE stream_id = ANY(:stream_ids) AND digest = ANY(:digests) AND first_seen = now()
""")
_NO_ORDER = {"order_id": None, "order_version": None, "order_changed_at": None}
_LONGEST_ERROR = 2000
_INDEXED_BYTES = 16_384
"""The transaction of a batch indexes only dead letters up to this size."""
_INDEXED_BATCH_BYTES = 1_048_576
"""It indexes this much at most. Workers index the other letters a moment later."""

_COUNT = text(f"""
UPDATE ingest_counters SET
  read = read + :read, applied = applied + :applied, stale = stale + :stale,
  duplicate = duplicate + :duplicate, conflict = conflict + :conflict,
  dead_lettered = dead_lettered + :dead_lettered,
  batches = batches + 1, seconds = seconds + CAST(:seconds AS float8),
  size_buckets[CAST(:size_bucket AS int)] = size_buckets[CAST(:size_bucket AS int)] + 1,
  seconds_buckets[CAST(:seconds_bucket AS int)] =
    seconds_buckets[CAST(:seconds_bucket AS int)] + 1
WHERE slot = pg_backend_pid() % {COUNTER_SLOTS}
""")

# The statement above has locked the counters of this slot, so no other transaction waits for these
# rows.
_COUNT_PARTITIONS = text(f"""
INSERT INTO partition_counters AS c (partition, slot, read)
SELECT partition, pg_backend_pid() % {COUNTER_SLOTS}, read
FROM unnest(CAST(:partitions AS int[]), CAST(:read AS bigint[])) AS r (partition, read)
ON CONFLICT (partition, slot) DO UPDATE SET read = c.read + excluded.read
""")


async def ingest(
    connection: AsyncConnection,
    batch: Sequence[Judged],
    now: datetime | None = None,
    traceparents: Mapping[str, str] = MappingProxyType({}),
    *,
    repeats_expected: bool = False,
) -> Counter[Outcome]:
    """Apply the events of a batch, store its refused entries as dead letters, return the outcomes.

    The caller commits, and acknowledges the entries only after that. ``now`` and the errors are
    those of `apply_with_facts`. ``traceparents``, by order id, are stored with the segment changes
    that the orders cause. ``repeats_expected`` costs one more statement, and saves most of the work
    on events that are already applied. The result is the same.
    """
    started = time.perf_counter()
    events = [verdict for _, verdict in batch if isinstance(verdict, OrderEvent)]
    outcomes = Counter[Outcome]()
    if events and repeats_expected:
        remaining = await without_repeats(connection, events)
        outcomes[Outcome.DUPLICATE] = len(events) - len(remaining)
        events = remaining
    if events:
        outcomes += await apply_with_facts(connection, events, now)
    if traceparents:
        await trace_orders(connection, traceparents)
    refused = [(entry, verdict) for entry, verdict in batch if isinstance(verdict, Refusal)]
    if refused:
        await _add_dead_letters(connection, refused)
        outcomes[Outcome.DEAD_LETTERED] = len(refused)
    seconds = time.perf_counter() - started
    await connection.execute(
        _COUNT,
        {
            "read": len(batch),
            **{outcome.value: outcomes[outcome] for outcome in Outcome},
            "seconds": seconds,
            "size_bucket": _bucket(SIZE_BUCKETS, len(batch)),
            "seconds_bucket": _bucket(SECONDS_BUCKETS, seconds),
        },
    )
    read = Counter(entry.partition for entry, _ in batch if entry.partition is not None)
    if read:
        parameters = {"partitions": list(read), "read": list(read.values())}
        await connection.execute(_COUNT_PARTITIONS, parameters)
    return outcomes


def _bucket(bounds: Sequence[float], value: float) -> int:
    """Return the number of the bucket that a value falls into, counted from 1 as in Postgres."""
    return next(number for number, bound in enumerate(bounds, 1) if value <= bound)


async def _add_dead_letters(
    connection: AsyncConnection, refused: Sequence[tuple[Entry, Refusal]]
) -> None:
    salt, now = await installation.secret(connection), datetime.now(UTC)
    rows, left = list[dict[str, Any]](), _INDEXED_BATCH_BYTES
    for whole, refusal in sorted(refused, key=lambda pair: _arrival(pair[0])):
        entry = beginning(whole) if _is_too_large(whole, refusal) else whole
        stored = entry.size - entry.missing
        indexed = stored <= min(left, _INDEXED_BYTES)
        left -= stored if indexed else 0
        found = hashes(salt, find([*entry.fields, *entry.fields.values()])) if indexed else None
        rows.append(
            {
                **stored_columns(entry),
                "stream_id": entry.id,
                "partition": entry.partition,
                "reason": refusal.reason.value,
                "error": storable_error(refusal),
                "whole_digest": None if entry is whole else digest(whole),
                "identifiers": found and found.identifiers,
                "hints": found and found.hints,
                **(order_columns(entry, now) if indexed else _NO_ORDER),
            }
        )
    await connection.execute(_ADD_DEAD_LETTERS, rows)
    identity = {
        "stream_ids": [row["stream_id"] for row in rows],
        "digests": [row["digest"] for row in rows],
    }
    added = (await connection.execute(_NEW_DEAD_LETTERS, identity)).scalar_one()
    await count_fates(connection, {Fate.STORED: added})


def _is_too_large(entry: Entry, refusal: Refusal) -> bool:
    """Return whether an entry that was read whole must be cut."""
    oversize = refusal.reason is Reason.TOO_LARGE or len(entry.fields) > MOST_FIELDS
    return oversize and not entry.missing


def storable_error(refusal: Refusal) -> str:
    """Return the sentence of a refusal in a form that Postgres takes: without U+0000, not long."""
    return refusal.message.replace("\x00", "\\0")[:_LONGEST_ERROR]


def _arrival(entry: Entry) -> tuple[int, StreamId]:
    # Stream ids are compared as numbers: as text, "…-11" would come before "…-4".
    return entry.partition or 0, parse(entry.id)
