"""Mend what can be derived, beside the customers' metrics and the statistics.

A mend finds what is wrong by the query of a check of `crm verify`, and writes what is right in a
transaction of its own. Published segment changes are left as they are, with one exception: see
`service.db.operations.rebuild.history`.
"""

from functools import partial
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.dead_letters import Fate
from service.core.removal_event import RemovalReason
from service.db.ingest.ingest import SECONDS_BUCKETS, SIZE_BUCKETS
from service.db.locks import lock_customers
from service.db.operations.rebuild import history
from service.db.operations.rebuild.identity import IDENTITY
from service.db.operations.rebuild.mend import CHUNK, Mend, Write, by, execute, find
from service.db.operations.verify import (
    entries,
    kept,
    metrics,
    people,
    removals,
    segments,
    statistics,
)
from service.db.search_text import search_text, write_search_text
from service.db.segments.recount import recount_miscounted


def _with(sql: str) -> Write:
    return partial(execute, text(sql))


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
    return sum([await execute(statement, connection) for statement in _ADD_COUNTERS])


_WRONG_SEARCH = f"""
SELECT coalesce(c.id, s.customer_id) AS id FROM customers c
FULL JOIN customer_search s ON s.customer_id = c.id
WHERE c.id IS NULL OR s.searched IS DISTINCT FROM {search_text("c")}"""
_WRONG_SEARCH_IDS = text(f"{_WRONG_SEARCH} LIMIT {CHUNK}")
_REMOVE_SEARCH = text("""
DELETE FROM customer_search
WHERE customer_id = ANY(:ids) AND customer_id NOT IN (SELECT id FROM customers WHERE id = ANY(:ids))
""")
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
    await write_search_text(connection, ids)
    await connection.execute(_REMOVE_SEARCH, {"ids": ids})
    return len(ids)


async def _write_email_keys(connection: AsyncConnection) -> int:
    """Set the keys that are wrong, and return how many.

    A key that another row has is left, and so is an e-mail that is none. Both are reported.
    """
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
            if key is None:
                continue
            written += (await connection.execute(statement, {"id": row_id, "key": key})).rowcount
    return written


async def _find_email_keys(connection: AsyncConnection) -> list[dict[str, Any]]:
    return [row for fault in await people.email_key_faults(connection) for row in fault.offenders]


async def _move_sequences(connection: AsyncConnection) -> int:
    behind = await find(kept.IDENTITIES, connection)
    for row in behind:
        await connection.execute(
            text("SELECT setval(pg_get_serial_sequence(:table, 'id'), :highest)"),
            {"table": row["table"], "highest": row["highest"]},
        )
    return len(behind)


FIRST = (
    Mend("rows of counters were missing", by(text(statistics.MISSING_COUNTERS)), _add_counters),
    Mend("the sweep had no watermark", by(segments.NO_SWEEP), _with(_WATERMARK)),
    Mend("the sweep's watermark lay in the future", by(segments.FUTURE), _with(_WATERMARK)),
    Mend(
        "a row had a number that its sequence would have given to another one",
        by(kept.IDENTITIES),
        _move_sequences,
    ),
    Mend(
        "e-mails were compared by a key that was not their own",
        _find_email_keys,
        _write_email_keys,
    ),
    *IDENTITY,
    Mend(
        "orders counted, or did not, against the settings",
        by(metrics.MISCOUNTED),
        recount_miscounted,
    ),
    Mend(
        "segment changes were out of order, or customers not where the last one says",
        history.find,
        history.put_in_order,
    ),
)
"""Mends that others rely on. They come before the customers."""
LAST = (
    Mend("the text that search reads was not the customer's", by(people.SEARCH), _write_search),
    Mend("erased identifiers were not on record", by(people.ERASED), _with(_ERASED)),
    Mend(
        "interactions of an erased person were left over",
        by(text(f"SELECT * FROM ({people.INTERACTIONS_SQL}) i WHERE erased LIMIT :most")),
        _with(_INTERACTIONS),
    ),
    Mend(
        "erased people were not announced to subscribers",
        by(removals.UNANNOUNCED),
        _with(_ANNOUNCE),
    ),
    Mend("cached answers could not become old", by(statistics.FUTURE_ANSWERS), _with(_ANSWERS)),
    Mend(
        "dead letters were gone, or more than were counted",
        by(entries.LETTERS),
        _with(_LETTERS),
        "The letters that are there now count as all there are. If some are gone that nobody "
        "replayed or discarded, restore them from a backup.",
    ),
)
"""Mends that come after the customers and the statistics."""
