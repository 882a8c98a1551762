"""Put segment changes in order again, as far as subscribers cannot be misled.

A change that has no publish number was told to nobody: its sequence and its previous segment follow
from the changes before it. A published change is what subscribers were told. Its sequence, segment
and facts are never rewritten. Its previous segment is, if the change before it is confirmed by its
own facts and the rules of its time: then only one of the two can be damaged.

A customer is where the last change says. Then the rules decide, and if they say otherwise, one more
change is announced.
"""

from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.locks import lock_customers
from service.db.operations.verify.findings import rows
from service.db.operations.verify.history import CONFIRMED, JUDGED_AGAIN
from service.db.segments.assign import follow_history

CHUNK = 2000
"""Customers whose history is put in order in one transaction."""

# A publish number that no row has may be that of a change that was published and is gone. Then a
# hole may be that change, and must stay: subscribers have seen its sequence.
_NONE_GONE = """(
    SELECT (SELECT numbered FROM relay) = count(publish_number) FROM segment_changes)"""

_SEQUENCES = f"""
SELECT id, customer_id, sequence, told + nth AS right_sequence FROM (
  SELECT id, customer_id, sequence, told,
         row_number() OVER (PARTITION BY customer_id ORDER BY sequence) AS nth
  FROM (
    SELECT id, customer_id, sequence, publish_number, coalesce(
             max(sequence) FILTER (WHERE publish_number IS NOT NULL)
               OVER (PARTITION BY customer_id), 0) AS told
    FROM segment_changes
  ) h
  WHERE publish_number IS NULL AND sequence > told
) numbered
WHERE sequence <> told + nth AND {_NONE_GONE}"""
_PREVIOUS = f"""
SELECT id, customer_id, sequence, previous, before AS right_previous, publish_number
FROM (
  SELECT id, customer_id, sequence, previous, segment, publish_number,
         lag(segment) OVER history AS before, lag(sequence) OVER history AS sequence_before,
         lag({CONFIRMED}) OVER history AS confirmed
  FROM ({JUDGED_AGAIN}) h WINDOW history AS (PARTITION BY customer_id ORDER BY sequence)
) linked
WHERE previous IS DISTINCT FROM before AND before IS DISTINCT FROM segment
  AND coalesce(sequence_before, 0) = sequence - 1
  AND (publish_number IS NULL OR sequence = 1 OR confirmed)"""
_CUSTOMERS = f"""
SELECT c.id AS customer_id, c.segment, h.segment AS right_segment, c.segment_sequence,
       h.sequence AS right_sequence
FROM customers c JOIN (
  SELECT DISTINCT ON (customer_id) customer_id, segment, sequence
  FROM segment_changes ORDER BY customer_id, sequence DESC
) h ON h.customer_id = c.id
WHERE (c.segment, c.segment_sequence) <> (h.segment, h.sequence)
  AND (c.segment_sequence <= h.sequence OR {_NONE_GONE})"""

_FIND = [
    text(
        "SELECT customer_id AS customer, sequence, right_sequence"
        f" FROM ({_SEQUENCES}) s LIMIT :most"
    ),
    text(
        "SELECT customer_id AS customer, sequence, previous, right_previous,"
        f" publish_number FROM ({_PREVIOUS}) s LIMIT :most"
    ),
    text(
        "SELECT customer_id AS customer, segment, right_segment, segment_sequence, right_sequence"
        f" FROM ({_CUSTOMERS}) s LIMIT :most"
    ),
]
_CONCERNED = text(f"""
SELECT customer_id FROM ({_SEQUENCES}) s
UNION SELECT customer_id FROM ({_PREVIOUS}) p
UNION SELECT customer_id FROM ({_CUSTOMERS}) c
ORDER BY customer_id LIMIT {CHUNK}
""")
# The relay numbers changes without locking their customers. It waits for these locks, and then
# leaves the changes to its next page.
_LOCK_UNPUBLISHED = text("""
SELECT id FROM segment_changes WHERE customer_id = ANY(:ids) AND publish_number IS NULL
ORDER BY id FOR UPDATE
""")
# In two steps, because one customer's sequences must differ at every moment.
_OUT_OF_THE_WAY = 1_000_000_000
_PUT_SEQUENCES = [
    text(f"""
UPDATE segment_changes h SET sequence = s.right_sequence + {_OUT_OF_THE_WAY}
FROM ({_SEQUENCES}) s WHERE h.id = s.id AND h.customer_id = ANY(:ids)
"""),
    text(f"""
UPDATE segment_changes SET sequence = sequence - {_OUT_OF_THE_WAY}
WHERE customer_id = ANY(:ids) AND sequence > {_OUT_OF_THE_WAY}
"""),
]
_PUT_PREVIOUS = text(f"""
UPDATE segment_changes h SET previous = p.right_previous
FROM ({_PREVIOUS}) p WHERE h.id = p.id AND h.customer_id = ANY(:ids)
""")


async def find(connection: AsyncConnection) -> list[dict[str, Any]]:
    """Return some of the changes and customers that can be put in order."""
    return [row for query in _FIND for row in await rows(connection, query, {})]


async def put_in_order(connection: AsyncConnection) -> int:
    """Put the history of up to `CHUNK` customers in order; return how many rows were written."""
    ids = (await connection.execute(_CONCERNED)).scalars().all()
    if not ids:
        return 0
    await lock_customers(connection, ids)
    await connection.execute(_LOCK_UNPUBLISHED, {"ids": ids})
    moved, *_ = [
        (await connection.execute(statement, {"ids": ids})).rowcount for statement in _PUT_SEQUENCES
    ]
    linked = (await connection.execute(_PUT_PREVIOUS, {"ids": ids})).rowcount
    following = [
        row.customer_id
        for row in await connection.execute(
            text(f"SELECT customer_id FROM ({_CUSTOMERS}) c WHERE customer_id = ANY(:ids)"),
            {"ids": ids},
        )
    ]
    return int(moved + linked + await follow_history(connection, following))
