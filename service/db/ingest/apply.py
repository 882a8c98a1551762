"""Apply a batch of order events: a few set-based statements in the caller's transaction.

The greater event key wins, so events may come twice, late, or spread over several batches.
Identifiers are inserted in their own order, and customers are locked in the order of their ids.
Every writer does the same, so that writers cannot deadlock.

Rows of growing tables are read by lateral subqueries, which cost one index probe each. ``OFFSET 0``
keeps Postgres from merging them into the join. When the planner was free to choose, it read whole
indexes while the tables were small, and kept that plan after they had grown.
"""

from collections import Counter
from collections.abc import Container, Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.batch import (
    Conflict,
    Outcome,
    StoredOrder,
    fold,
    outcomes_of,
)
from service.core.order_event import REGISTERS, EventKey, OrderContent, OrderEvent
from service.core.segment_event import Cause
from service.db import registers
from service.db.columns import pack, unpack
from service.db.counting import RULES_OF_NOW, counts_sql
from service.db.ingest import batch_columns
from service.db.ingest.erased_orders import hide_erased, remember
from service.db.ingest.owners import OwnerChangedError, lock_owners
from service.db.search_text import write_search_text
from service.db.segments.assign import assign_sql

_KEY = ("version", "updated_at", "sent_at", "event_id")
_STATE = (
    *_KEY,
    "status",
    "payment_status",
    "total",
    "refunded",
    "date_created",
    "currency",
    "exchange_rate",
)
_NAMED_KEY = ("named_version", "named_at", "named_sent_at", "named_event_id")
_NAMING = ("customer_id", "identifier", "other_identifier", *_NAMED_KEY)
_COLUMNS = ", ".join(("id", *_STATE, "counts", *_NAMING, "erased"))


def _key(relation: str, version: str, at: str, sent_at: str, event_id: str) -> str:
    """Return a key as SQL. ``sent_at`` is NULL if it is the same as ``at``."""
    sent = f"coalesce({relation}.{sent_at}, {relation}.{at})"
    return f"({relation}.{version}, {relation}.{at}, {sent}, {relation}.{event_id})"


_NEWER = f"{_key('excluded', *_KEY)} > {_key('o', *_KEY)}"
# If the stored key is NULL, the comparison is NULL. Then any event that has an identifier wins. An
# order that an earlier release named has no identifier: then the same event, sent again, adds it.
# After an erasure it does not: whoever else the event names did not have the order before.
_NAMES_LATER = (
    f"coalesce({_key('excluded', *_NAMED_KEY)} > {_key('o', *_NAMED_KEY)}"
    f" OR {_key('excluded', *_NAMED_KEY)} = {_key('o', *_NAMED_KEY)}"
    " AND o.identifier IS NULL AND NOT o.erased,"
    " excluded.identifier IS NOT NULL)"
)


def _replace_if(condition: str, columns: Sequence[str]) -> str:
    return ",\n    ".join(
        f"{column} = CASE WHEN {condition} THEN excluded.{column} ELSE o.{column} END"
        for column in columns
    )


# The refund of one state may be less than that of an earlier one: then the greater one is kept.
_MOST_REFUNDED = "GREATEST(o.most_refunded, o.refunded, excluded.most_refunded, excluded.refunded)"
_REFUND_FELL = (
    "coalesce(excluded.most_refunded, excluded.refunded) > GREATEST(o.most_refunded, o.refunded)"
)


def _or_usual(column: str, value: str, usual: str) -> str:
    """Return SQL for a part of a key, with the usual value where `batch_columns` leaves it out.

    A value and its key nearly always come from the newest event of the row, so the batch leaves out
    the repeated key. When it did not, parsing the same timestamp three times took a quarter of the
    statement's time.
    """
    return f"coalesce({column}, CASE WHEN {value} IS NOT NULL THEN {usual} END) AS {column}"


_NAMED_SENT_AT = (
    "NULLIF(coalesce(named_sent_at, CASE WHEN identifier IS NOT NULL THEN sent_at END),"
    " coalesce(named_at, updated_at)) AS named_sent_at"
)


def _profile_register(register: str) -> str:
    value, at, event = registers.columns_of(register)
    return (
        f"{value}, {_or_usual(at, value, 'profile_at')}, {_or_usual(event, value, 'profile_event')}"
    )


_CUSTOMER_COLUMNS = {  # what `after` needs of a customer, and what a new one has, as SQL
    "id": "new_customer",
    **{column: f"CAST(NULL AS {kind})" for column, kind in registers.KINDS.items()},
    "email": "new_email",
    "email_key": "new_email",
    "date_created": "new_since",
    "total_orders": "0",
    "total_spent": "0",
    "first_order_date": "NULL",
    "last_order_date": "NULL",
    "segment": "'new'",
    "segment_sequence": "0",
    "segment_manual": "false",
    "segment_pinned": "false",
    "segment_pinned_until": "NULL",
    "segment_held_since": "NULL",
}
_CUSTOMER = ", ".join(_CUSTOMER_COLUMNS)
_NEW_CUSTOMER = ", ".join(_CUSTOMER_COLUMNS.values())

_SOURCE = f"""{RULES_OF_NOW},
told AS (
  SELECT *, total_cents * 0.01 AS total, refunded_cents * 0.01 AS refunded
  FROM ({unpack(batch_columns.ORDERS)}) packed
),
incoming AS (
  SELECT id, {", ".join(_STATE)}, {counts_sql()} AS counts,
         most_refunded_cents * 0.01 AS most_refunded,
         customer_id, identifier, other_identifier,
         {_or_usual("named_version", "identifier", "version")},
         {_or_usual("named_at", "identifier", "updated_at")},
         {_NAMED_SENT_AT},
         {_or_usual("named_event_id", "identifier", "event_id")},
         coalesce(erased, false) AS erased
  FROM told CROSS JOIN counting
),
profile AS (  -- the newest values that the batch has for each customer
  SELECT profile_customer, earliest_order, coalesce(newest_order, earliest_order) AS newest_order,
    {", ".join(map(_profile_register, REGISTERS))}
  FROM ({unpack(batch_columns.PROFILES)}) packed
),
written AS (
  INSERT INTO orders AS o ({_COLUMNS}, most_refunded, applied_at)
  SELECT {_COLUMNS}, most_refunded, CAST(:now AS timestamptz)
  FROM incoming ORDER BY id COLLATE "C"
  ON CONFLICT (id) DO UPDATE SET
    {_replace_if(_NEWER, (*_STATE, "counts"))},
    most_refunded = NULLIF({_MOST_REFUNDED},
      CASE WHEN {_NEWER} THEN excluded.refunded ELSE o.refunded END),
    {_replace_if(_NAMES_LATER, _NAMING)},
    erased = o.erased OR excluded.erased,
    applied_at = excluded.applied_at
  WHERE {_NEWER} OR {_NAMES_LATER} OR excluded.erased > o.erased OR {_REFUND_FELL}
  RETURNING new.id,
    old.customer_id AS old_customer, old.counts AS old_counts,
    old.net AS old_net, old.date_created AS old_date,
    new.customer_id AS new_customer, new.counts AS new_counts,
    new.net AS new_net, new.date_created AS new_date,
    {", ".join(f"old.{column} AS was_{column}" for column in _STATE)}
),
effects AS (  -- what each written order takes from its old customer and gives to its new one
  SELECT old_customer AS customer_id, -1 AS orders, -old_net AS spent,
         CAST(NULL AS timestamptz) AS gained,
         NOT (new_counts AND new_customer IS NOT DISTINCT FROM old_customer
              AND new_date = old_date) AS lost
  FROM written WHERE old_counts AND old_customer IS NOT NULL
  UNION ALL
  SELECT new_customer, 1, new_net, new_date, false
  FROM written WHERE new_counts AND new_customer IS NOT NULL
),
effect AS (
  SELECT customer_id, sum(orders) AS orders, sum(spent) AS spent, min(gained) AS first_gained,
         max(gained) AS last_gained, bool_or(lost) AS lost
  FROM effects GROUP BY customer_id
),
remaining AS MATERIALIZED (  -- the other counted orders of customers who lost one: two probes each
  SELECT e.customer_id, o.first, o.last
  FROM effect e CROSS JOIN LATERAL (
    SELECT min(date_created) AS first, max(date_created) AS last FROM orders
    WHERE customer_id = e.customer_id AND counts AND id NOT IN (SELECT id FROM written)
  ) o
  WHERE e.lost
),
touched AS MATERIALIZED (  -- only locked customers: waiting for a lock here could deadlock
  (SELECT profile_customer AS customer_id FROM profile UNION SELECT customer_id FROM effect)
  INTERSECT ({unpack({"locked": "bigint"})})
),
stored AS (
  SELECT c.* FROM touched CROSS JOIN LATERAL (
    SELECT ctid AS place, {_CUSTOMER} FROM customers WHERE id = touched.customer_id OFFSET 0
  ) c
  UNION ALL
  SELECT NULL, {_NEW_CUSTOMER} FROM ({unpack(batch_columns.NEW_CUSTOMERS)}) new
),
after AS (
  SELECT c.place, c.id, c.segment, c.segment_manual, c.segment_pinned, c.segment_pinned_until,
    c.segment_held_since, GREATEST(p.newest_order, e.last_gained) AS newest_order,
    {registers.merged("p", "c")},
    CASE WHEN {registers.newer("email", "p", "c")} THEN p.email ELSE c.email_key END AS email_key,
    LEAST(c.date_created, p.earliest_order) AS date_created,
    CAST(c.total_orders + coalesce(e.orders, 0) AS integer) AS total_orders,
    c.total_spent + coalesce(e.spent, 0) AS total_spent,
    LEAST(CASE WHEN e.lost THEN r.first ELSE c.first_order_date END, e.first_gained)
      AS first_order_date,
    GREATEST(CASE WHEN e.lost THEN r.last ELSE c.last_order_date END, e.last_gained)
      AS last_order_date
  FROM stored c
  LEFT JOIN profile p ON p.profile_customer = c.id
  LEFT JOIN effect e ON e.customer_id = c.id
  LEFT JOIN remaining r ON r.customer_id = c.id
  WHERE (
    e.customer_id IS NOT NULL  -- if nothing of a customer is new, leave the row alone
    OR c.segment_sequence = 0
    OR p.earliest_order < c.date_created
    OR p.newest_order > c.segment_held_since
    OR {registers.any_newer("p", "c")}
  ) AND (  -- while we waited for the lock, staff gave the e-mail away: the batch runs again
    p.email IS NULL OR p.email IS NOT DISTINCT FROM c.email_key
    OR EXISTS (
      SELECT FROM identifiers WHERE identifier = 'email:' || p.email AND customer_id = c.id)
  )
)"""

# Returns the state before the batch of every order that is not new. If the order was written,
# RETURNING has that state. If not, the table has it. A row without an id says that an erasure has
# replaced ids, or that staff have given identifiers away, since the batch looked them up.
_RESULT = f"""
SELECT i.id, w.old_customer, {", ".join(f"k.was_{column}" for column in _STATE)}
FROM (SELECT count(*) FROM announced) a CROSS JOIN incoming i
LEFT JOIN written w ON w.id = i.id
CROSS JOIN LATERAL (
  SELECT {", ".join(f"w.was_{column}" for column in _STATE)} WHERE w.was_event_id IS NOT NULL
  UNION ALL
  SELECT {", ".join(f"o.{column}" for column in _STATE)} FROM orders o
  WHERE w.id IS NULL AND o.id = i.id
) k
UNION ALL
SELECT NULL, NULL, {", ".join("NULL" for _ in _STATE)} FROM installation
WHERE (ids_replaced, reassignments) <>
  (CAST(:ids_replaced AS bigint), CAST(:reassignments AS bigint))
"""

_DATED = """
TABLE created
UNION ALL SELECT new_date, 0, 1, new_net FROM written WHERE new_counts
UNION ALL SELECT old_date, 0, -1, -old_net FROM written WHERE old_counts
"""

_APPLY = text(assign_sql(_SOURCE, _RESULT, _DATED, creates=True))

_CONFLICT_COLUMNS = {
    "order_id": "text",
    "event_id": "text",
    "version": "bigint",
    "updated_at": "timestamptz",
    "sent_at": "timestamptz",
    "content": "jsonb",
}
_NOTE_CONFLICTS = text(f"""
INSERT INTO order_conflicts ({", ".join(_CONFLICT_COLUMNS)})
{unpack(_CONFLICT_COLUMNS)} ORDER BY order_id COLLATE "C", event_id COLLATE "C"
ON CONFLICT DO NOTHING
""")


async def apply_events(
    connection: AsyncConnection,
    events: Sequence[OrderEvent],
    now: datetime | None = None,
    cause: Cause = Cause.ORDER,
) -> Counter[Outcome]:
    """Apply events to orders, customers, segments and counters. Return the number of each outcome.

    Segments are judged at ``now``, and ``cause`` is why they change. None means the database's
    clock, read after the customers are locked, so that time never runs backwards for a customer.
    The caller commits. Raises OwnerChangedError if the transaction must run again from the start.
    """
    owners = await lock_owners(connection, events)
    hidden = None
    if owners.touch_erased:
        hidden = await hide_erased(connection, events, owners)
        events = hidden.events
    changes, profiles = fold(events, owners.namings)
    rows = await connection.execute(
        _APPLY,
        {
            **pack(batch_columns.of_orders(changes)),
            **pack(batch_columns.of_profiles(profiles)),
            **pack({"locked": sorted(owners.locked)}),
            **pack(batch_columns.of_new_customers(owners.new)),
            "now": now or owners.locked_at,
            "cause": cause.value,
            "ids_replaced": owners.ids_replaced,
            "reassignments": owners.reassignments,
        },
    )
    if owners.enlarged:
        await write_search_text(connection, sorted(owners.enlarged))
    counted, conflicts = outcomes_of(changes, _stored(rows, owners.locked))
    if conflicts:
        await _note_conflicts(connection, conflicts)
    if hidden:
        await remember(connection, hidden)
    return counted


async def _note_conflicts(connection: AsyncConnection, conflicts: Sequence[Conflict]) -> None:
    """Keep both events of each conflict. An order's state is the greater of them."""
    both = [
        (conflict.order_id, event)
        for conflict in conflicts
        for event in (conflict.one, conflict.other)
    ]
    rows = sorted(
        {(order_id, event.key.event_id): event for order_id, event in both}.items(),
        key=lambda row: row[0],
    )
    await connection.execute(
        _NOTE_CONFLICTS,
        pack(
            {
                "order_id": [order_id for (order_id, _), _ in rows],
                "event_id": [event_id for (_, event_id), _ in rows],
                "version": [event.key.version for _, event in rows],
                "updated_at": [event.key.at for _, event in rows],
                "sent_at": [event.key.sent for _, event in rows],
                "content": [_document(event.content) for _, event in rows],
            }
        ),
    )


def _document(content: OrderContent) -> dict[str, Any]:
    rate = content.exchange_rate
    return content._asdict() | {"exchange_rate": None if rate is None else f"{rate:f}"}


def _stored(rows: Iterable[Row[Any]], locked: Container[int]) -> dict[str, StoredOrder]:
    """Return the state before the batch of the orders that are not new, by order id.

    Raises OwnerChangedError if an order belonged to a customer whom we have not locked, or if ids
    were replaced or identifiers given away meanwhile.
    """
    stored: dict[str, StoredOrder] = {}
    for row in rows:
        if row.id is None or (row.old_customer is not None and row.old_customer not in locked):
            raise OwnerChangedError
        stored[row.id] = _stored_order(row)
    return stored


def _stored_order(row: Row[Any]) -> StoredOrder:
    return StoredOrder(
        EventKey(
            row.was_version,
            row.was_updated_at,
            row.was_sent_at or row.was_updated_at,
            row.was_event_id,
        ),
        OrderContent(
            row.was_status,
            row.was_payment_status,
            int(row.was_total * 100),
            int(row.was_refunded * 100),
            row.was_date_created,
            row.was_currency,
            row.was_exchange_rate,
        ),
    )
