"""Mend what can be derived, beside the customers' metrics and the statistics.

A mend finds what is wrong by the query of a check of `crm verify`, and writes what is right in a
transaction of its own. Published segment changes are left as they are, with one exception: see
`service.db.operations.rebuild.history`.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from service.core.dead_letters import Fate
from service.core.removal_event import RemovalReason
from service.db.engine import in_transaction
from service.db.ingest.ingest import SECONDS_BUCKETS, SIZE_BUCKETS
from service.db.locks import lock_customers, read_clock
from service.db.operations.rebuild import history
from service.db.operations.status import SWEEP_PROMISE
from service.db.operations.verify import (
    entries,
    kept,
    metrics,
    people,
    removals,
    segments,
    statistics,
)
from service.db.operations.verify.findings import rows
from service.db.search_text import search_text
from service.db.segments.sweep import OVERLAP

CHUNK = 2000
"""Rows that a mend writes in one transaction, if it goes chunk by chunk."""

Write = Callable[[AsyncConnection], Awaitable[int]]
"""Writes what is right. Returns how many rows were wrong. The caller commits."""


class Mended(NamedTuple):
    """Something that was wrong, and that is mended, or would be."""

    what: str
    rows: int
    """How many rows were mended. Without `--apply`: how many examples were found."""
    examples: list[dict[str, Any]]
    then: str = ""
    """What else is to be done."""


class Mend(NamedTuple):
    """A way to mend one kind of fault."""

    what: str
    find: Callable[[AsyncConnection], Awaitable[list[dict[str, Any]]]]
    """Returns some of the rows that are wrong."""
    write: Write
    then: str = ""


async def mend(engine: AsyncEngine, step: Mend, *, apply: bool) -> list[Mended]:
    """Find out whether something is wrong. With ``apply``, mend it.

    The list is empty if nothing was wrong, or if nothing of it could be mended.
    """
    async with engine.connect() as pooled:
        connection = await pooled.execution_options(isolation_level="REPEATABLE READ")
        examples = await step.find(connection)
    if not examples:
        return []
    changed = len(examples)
    if apply:
        changed = chunk = await in_transaction(engine, step.write)
        while chunk >= CHUNK:
            chunk = await in_transaction(engine, step.write)
            changed += chunk
    return [Mended(step.what, changed, examples, step.then)] if changed else []


async def _find(query: TextClause, connection: AsyncConnection) -> list[dict[str, Any]]:
    now = await read_clock(connection)
    return await rows(connection, query, {"now": now, "promise": SWEEP_PROMISE, "overlap": OVERLAP})


async def _execute(statement: TextClause, connection: AsyncConnection) -> int:
    return int((await connection.execute(statement)).rowcount)


def _by(query: TextClause) -> Callable[[AsyncConnection], Awaitable[list[dict[str, Any]]]]:
    return partial(_find, query)


def _with(sql: str) -> Write:
    return partial(_execute, text(sql))


_ADD_COUNTERS = (
    text(f"""
INSERT INTO segment_counters (slot, segment)
SELECT slot, segment FROM ({statistics.MISSING_COUNTERS}) missing
WHERE counters = 'segment_counters' ON CONFLICT DO NOTHING
"""),
    # An array of the length that another row has: one number for each bound of the histogram.
    text(f"""
INSERT INTO ingest_counters (slot, size_buckets, seconds_buckets)
SELECT slot, array_fill(CAST(0 AS bigint), ARRAY[{len(SIZE_BUCKETS)}]),
       array_fill(CAST(0 AS bigint), ARRAY[{len(SECONDS_BUCKETS)}])
FROM ({statistics.MISSING_COUNTERS}) missing
WHERE counters = 'ingest_counters' ON CONFLICT DO NOTHING
"""),
)


async def _add_counters(connection: AsyncConnection) -> int:
    return sum([await _execute(statement, connection) for statement in _ADD_COUNTERS])


# Whom the order belonged to is unknown. Without the key of the event that named them, that event
# attaches the order again when it is read again.
_DETACH = """
UPDATE orders o SET customer_id = NULL, erased = o.erased OR gone.erased,
  named_version = CASE WHEN gone.erased THEN named_version END,
  named_at = CASE WHEN gone.erased THEN named_at END,
  named_event_id = CASE WHEN gone.erased THEN named_event_id END
FROM (
  SELECT id, EXISTS (SELECT FROM audit a WHERE a.customer_id = d.customer_id
                     AND a.action = 'customer.erased') AS erased
  FROM orders d WHERE customer_id IS NOT NULL
    AND NOT EXISTS (SELECT FROM customers c WHERE c.id = d.customer_id)
) gone
WHERE o.id = gone.id
"""
_WRONG_SEARCH = f"""
SELECT coalesce(c.id, s.customer_id) AS id FROM customers c
FULL JOIN customer_search s ON s.customer_id = c.id
WHERE c.id IS NULL OR s.searched IS DISTINCT FROM {search_text("c")}"""
_WRONG_SEARCH_IDS = text(f"{_WRONG_SEARCH} LIMIT {CHUNK}")
_WRITE_SEARCH = text(f"""
INSERT INTO customer_search (customer_id, searched)
SELECT id, {search_text("c")} FROM customers c WHERE id = ANY(:ids) ORDER BY id
ON CONFLICT (customer_id) DO UPDATE SET searched = excluded.searched
""")
_REMOVE_SEARCH = text("""
DELETE FROM customer_search
WHERE customer_id = ANY(:ids) AND customer_id NOT IN (SELECT id FROM customers WHERE id = ANY(:ids))
""")
_FORMER = f"""
WITH {people.FORMER},
taken AS (
  DELETE FROM former_emails f USING customers c WHERE c.email_key = f.email_key RETURNING 1
),
written AS (
  INSERT INTO former_emails AS f (email_key, customer_id)
  SELECT email_key, customer_id FROM former ORDER BY email_key
  ON CONFLICT (email_key) DO UPDATE SET customer_id = excluded.customer_id
  WHERE f.customer_id <> excluded.customer_id RETURNING 1
)
SELECT (SELECT count(*) FROM taken) + (SELECT count(*) FROM written)
"""
_ERASED = f"""
WITH {people.ERASURES}
INSERT INTO erased AS e (email_hash, erased_at)
SELECT email_hash, erased_at FROM recorded
ON CONFLICT (email_hash) DO UPDATE SET erased_at = excluded.erased_at
WHERE e.erased_at <> excluded.erased_at
"""
_INTERACTIONS = """
DELETE FROM interactions i
WHERE NOT EXISTS (SELECT FROM customers c WHERE c.id = i.customer_id)
  AND EXISTS (SELECT FROM audit a WHERE a.customer_id = i.customer_id
              AND a.action = 'customer.erased')
"""
_ANNOUNCE = f"""
INSERT INTO removals (customer_id, reason, removed_at)
SELECT customer, '{RemovalReason.ERASED}', erased_at
FROM ({removals.UNANNOUNCED_SQL}) erased ORDER BY customer
"""
# Workers compute the answers again.
_ANSWERS = "DELETE FROM kept_answers"
# The customers are all recomputed after this.
_WATERMARK = """
INSERT INTO sweep (swept_until) VALUES (clock_timestamp())
ON CONFLICT (one) DO UPDATE SET swept_until = excluded.swept_until
"""
_LETTERS = f"""
INSERT INTO dead_letter_counters AS c (fate, slot, letters)
SELECT '{Fate.STORED}', 0, stored - counted FROM ({entries.LETTERS.text}) wrong
ON CONFLICT (fate, slot) DO UPDATE SET letters = c.letters + excluded.letters
"""


async def _write_search(connection: AsyncConnection) -> int:
    ids = sorted((await connection.execute(_WRONG_SEARCH_IDS)).scalars())
    # An edit locks the customer's row first, and writes the text after that.
    await lock_customers(connection, ids)
    for statement in (_WRITE_SEARCH, _REMOVE_SEARCH):
        await connection.execute(statement, {"ids": ids})
    return len(ids)


async def _counted(sql: str, connection: AsyncConnection) -> int:
    return int((await connection.execute(text(sql))).scalar_one())


async def _write_email_keys(connection: AsyncConnection) -> int:
    """Set the keys that are wrong. One that another row has is left, and reported as a fault."""
    written = 0
    for table in ("customers", "users"):
        wrong = await people.wrong_email_keys(connection, table)
        if table == "customers" and wrong:
            await lock_customers(connection, sorted(row_id for row_id, _ in wrong))
        statement = text(
            f"UPDATE {table} SET email_key = :key WHERE id = :id"
            f" AND NOT EXISTS (SELECT FROM {table} WHERE email_key = :key)"
        )
        for row_id, key in wrong:
            written += (await connection.execute(statement, {"id": row_id, "key": key})).rowcount
    return written


async def _find_email_keys(connection: AsyncConnection) -> list[dict[str, Any]]:
    return [row for fault in await people.email_key_faults(connection) for row in fault.offenders]


async def _move_sequences(connection: AsyncConnection) -> int:
    behind = await _find(kept.IDENTITIES, connection)
    for row in behind:
        await connection.execute(
            text("SELECT setval(pg_get_serial_sequence(:table, 'id'), :highest)"),
            {"table": row["table"], "highest": row["highest"]},
        )
    return len(behind)


FIRST = (
    Mend("rows of counters were missing", _by(text(statistics.MISSING_COUNTERS)), _add_counters),
    Mend("the sweep had no watermark", _by(segments.NO_SWEEP), _with(_WATERMARK)),
    Mend("the sweep's watermark lay in the future", _by(segments.FUTURE), _with(_WATERMARK)),
    Mend(
        "a row had a number that its sequence would have given to another one",
        _by(kept.IDENTITIES),
        _move_sequences,
    ),
    Mend(
        "orders belonged to a customer who does not exist",
        _by(metrics.DANGLING),
        _with(_DETACH),
        "Orders of an erased person stay without one. The others are unattributed now: "
        "`crm replay --since TIME` attaches those whose events Redis still has.",
    ),
    Mend(
        "e-mails were compared by a key that was not their own",
        _find_email_keys,
        _write_email_keys,
    ),
    Mend(
        "segment changes were out of order, or customers not where the last one says",
        history.find,
        history.put_in_order,
    ),
)
"""Mends that others rely on. They come before the customers."""
LAST = (
    Mend("the text that search reads was not the customer's", _by(people.SEARCH), _write_search),
    Mend("erased e-mails were not on record", _by(people.ERASED), _with(_ERASED)),
    Mend(
        "former e-mails were missing, or meant another customer",
        _by(people.FORMER_MISSING),
        partial(_counted, _FORMER),
    ),
    Mend(
        "former e-mails were somebody's present e-mail",
        _by(people.FORMER_TAKEN),
        partial(_counted, _FORMER),
    ),
    Mend(
        "interactions of an erased person were left over",
        _by(text(f"SELECT * FROM ({people.INTERACTIONS_SQL}) i WHERE erased LIMIT :most")),
        _with(_INTERACTIONS),
    ),
    Mend(
        "erased people were not announced to subscribers",
        _by(removals.UNANNOUNCED),
        _with(_ANNOUNCE),
    ),
    Mend("cached answers could not become old", _by(statistics.FUTURE_ANSWERS), _with(_ANSWERS)),
    Mend(
        "dead letters were gone, or more than were counted",
        _by(entries.LETTERS),
        _with(_LETTERS),
        "The letters that are there now count as all there are. If some are gone that nobody "
        "replayed or discarded, restore them from a backup.",
    ),
)
"""Mends that come after the customers and the statistics."""
