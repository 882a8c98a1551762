"""Apply a batch of order events: a few set-based statements in the caller's transaction.

The greater key wins, so applying anything twice, late or in pieces changes nothing. Customers are
created in the order of their e-mails and locked in the order of their ids; every writer does the
same, which is why they cannot deadlock.

Rows of tables that grow are fetched by lateral subqueries (``OFFSET 0`` keeps them from being
merged into the join): one index probe each, whatever the planner believes of a table's size. Left
to choose, it read whole indexes while tables were small, and went on doing so when they were not.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.batch import (
    ERASED,
    OrderChange,
    Outcome,
    Profile,
    StoredOrder,
    by_order,
    outcomes,
    profiles,
)
from service.core.order_event import EventKey, OrderEvent
from service.core.segment_event import Cause
from service.db.columns import pack, unpack
from service.db.customers.erasure import email_hash
from service.db.locks import read_clock
from service.db.segments.assign import settle_sql


class OwnerChangedError(Exception):
    """An order or e-mail went to another while we waited for locks: run the transaction again."""


_KNOWN_IDS = text("SELECT id FROM customers WHERE id = ANY(:numbers)")

# The e-mail as shown is the key, too: which spelling came first must not matter.
_CREATE = text(f"""
WITH named AS (
  SELECT n.*, CASE WHEN EXISTS (SELECT FROM erased) THEN (
    SELECT erased_at FROM erased WHERE email_hash = {email_hash("n.email_key")}) END AS erased_at
  FROM (
    {unpack({"email_key": "text", "earliest": "timestamptz", "latest": "timestamptz"})}
  ) n
)
INSERT INTO customers (email, email_key, date_created)
SELECT email_key, email_key, CASE WHEN erased_at IS NULL THEN earliest ELSE latest END FROM named
LEFT JOIN LATERAL (
  SELECT true AS known FROM customers c WHERE c.email_key = named.email_key
  UNION ALL
  SELECT true FROM former_emails f
  WHERE f.email_key = named.email_key AND EXISTS (SELECT FROM former_emails) LIMIT 1
) c ON true
WHERE known IS NULL AND coalesce(latest > erased_at, true)
ORDER BY email_key COLLATE "C"
ON CONFLICT (email_key) DO NOTHING
""")

# Whom the batch names, and whose orders it touches; of the erased, until when. Who had an e-mail
# formerly comes after whose it is. The clock of the last row is read after the last lock.
_LOCK = text(f"""
WITH formerly AS MATERIALIZED (
  SELECT f.customer_id AS id, n.email_key FROM ({unpack({"email_key": "text"})}) n
  CROSS JOIN LATERAL (
    SELECT customer_id FROM former_emails WHERE email_key = n.email_key OFFSET 0) f
  WHERE EXISTS (SELECT FROM former_emails)
),
concerned AS MATERIALIZED (
  SELECT c.id FROM ({unpack({"email_key": "text"})}) e CROSS JOIN LATERAL (
    SELECT id FROM customers WHERE email_key = e.email_key OFFSET 0) c
  UNION SELECT id FROM formerly
  UNION SELECT id FROM ({unpack({"id": "bigint"})}) i
  UNION SELECT o.customer_id FROM ({unpack({"order_id": "text"})}) n CROSS JOIN LATERAL (
    SELECT customer_id FROM orders WHERE id = n.order_id OFFSET 0) o
),
locked AS MATERIALIZED (
  SELECT c.id, c.email_key FROM (SELECT id FROM concerned ORDER BY id) k CROSS JOIN LATERAL (
    SELECT id, email_key FROM customers WHERE id = k.id FOR NO KEY UPDATE) c
)
SELECT id, email_key, CAST(NULL AS timestamptz) AS erased_at, clock_timestamp() AS locked_at
FROM locked
UNION ALL
SELECT id, f.email_key, NULL, clock_timestamp() FROM formerly f JOIN locked USING (id)
UNION ALL
SELECT NULL, n.email_key, e.erased_at, clock_timestamp()
FROM ({unpack({"email_key": "text"})}) n
JOIN erased e ON e.email_hash = {email_hash("n.email_key")}
WHERE EXISTS (SELECT FROM erased)
""")

_STATE = (
    "version",
    "updated_at",
    "event_id",
    "status",
    "payment_status",
    "total",
    "refunded",
    "date_created",
)
_NAMING = ("customer_id", "named_version", "named_at", "named_event_id")
_COLUMNS = ", ".join(("id", *_STATE, *_NAMING, "erased"))


def _key(relation: str, *columns: str) -> str:
    return f"({', '.join(f'{relation}.{column}' for column in columns)})"


_NEWER = f"{_key('excluded', *_STATE[:3])} > {_key('o', *_STATE[:3])}"
# Comparing with a NULL key is NULL: then it counts whether the event names somebody at all.
_NAMES_LATER = (
    f"coalesce({_key('excluded', *_NAMING[1:])} > {_key('o', *_NAMING[1:])},"
    " excluded.customer_id IS NOT NULL)"
)


def _if(condition: str, columns: Sequence[str]) -> str:
    return ", ".join(
        f"{column} = CASE WHEN {condition} THEN excluded.{column} ELSE o.{column} END"
        for column in columns
    )


def _told_later(value: str) -> str:
    return (
        f"coalesce((t.{value}_at, t.{value}_event) > (c.{value}_at, c.{value}_event),"
        f" t.{value}_at IS NOT NULL)"
    )


def _register(value: str) -> str:
    return ", ".join(
        f"CASE WHEN {_told_later(value)} THEN t.{column} ELSE c.{column} END AS {column}"
        for column in (value, f"{value}_at", f"{value}_event")
    )


def _or_same(column: str, value: str, usual: str) -> str:
    """Fill a key that was left out because it is the usual one of its row.

    A value and the key it came with nearly always come from the row's newest event; parsing the
    same timestamp three times was a quarter of the statement.
    """
    return f"coalesce({column}, CASE WHEN {value} IS NOT NULL THEN {usual} END) AS {column}"


_ORDER_COLUMNS = {
    "id": "text",
    "version": "bigint",
    "updated_at": "timestamptz",
    "event_id": "text",
    "status": "text",
    "payment_status": "text",
    "total_cents": "bigint",
    "refunded_cents": "bigint",
    "date_created": "timestamptz",
    "customer_id": "bigint",
    "named_version": "bigint",
    "named_at": "timestamptz",
    "named_event_id": "text",
    "erased": "boolean",
}
_TOLD_COLUMNS = {
    "told_id": "bigint",
    "told_at": "timestamptz",
    "told_event": "text",
    "earliest_order": "timestamptz",
    "newest_order": "timestamptz",
    "name": "text",
    "name_at": "timestamptz",
    "name_event": "text",
    "phone": "text",
    "phone_at": "timestamptz",
    "phone_event": "text",
    "address": "jsonb",
    "address_at": "timestamptz",
    "address_event": "text",
}

_SOURCE = f"""
incoming AS (
  SELECT id, version, updated_at, event_id, status, payment_status, total_cents * 0.01 AS total,
         refunded_cents * 0.01 AS refunded, date_created, customer_id,
         {_or_same("named_version", "customer_id", "version")},
         {_or_same("named_at", "customer_id", "updated_at")},
         {_or_same("named_event_id", "customer_id", "event_id")},
         erased
  FROM ({unpack(_ORDER_COLUMNS)}) packed
),
told AS (
  SELECT told_id, earliest_order, coalesce(newest_order, earliest_order) AS newest_order,
         name, {_or_same("name_at", "name", "told_at")},
         {_or_same("name_event", "name", "told_event")},
         phone, {_or_same("phone_at", "phone", "told_at")},
         {_or_same("phone_event", "phone", "told_event")},
         address, {_or_same("address_at", "address", "told_at")},
         {_or_same("address_event", "address", "told_event")}
  FROM ({unpack(_TOLD_COLUMNS)}) packed
),
written AS (
  INSERT INTO orders AS o ({_COLUMNS}, applied_at)
  SELECT {_COLUMNS}, CAST(:now AS timestamptz)
  FROM incoming ORDER BY id COLLATE "C"
  ON CONFLICT (id) DO UPDATE SET
    {_if(_NEWER, _STATE)},
    {_if(_NAMES_LATER, _NAMING)},
    erased = o.erased OR excluded.erased,
    applied_at = excluded.applied_at
  WHERE {_NEWER} OR {_NAMES_LATER} OR excluded.erased > o.erased
  RETURNING new.id,
    old.customer_id AS old_customer, old.counts AS old_counts,
    old.total - old.refunded AS old_net, old.date_created AS old_date,
    new.customer_id AS new_customer, new.counts AS new_counts,
    new.total - new.refunded AS new_net, new.date_created AS new_date,
    {", ".join(f"old.{column} AS was_{column}" for column in _STATE)}
),
effects AS (  -- what each order written takes from its old customer and gives to its new one
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
remaining AS MATERIALIZED (  -- the other counted orders of those who lost one: two probes each
  SELECT e.customer_id, o.first, o.last
  FROM effect e CROSS JOIN LATERAL (
    SELECT min(date_created) AS first, max(date_created) AS last FROM orders
    WHERE customer_id = e.customer_id AND counts AND id NOT IN (SELECT id FROM written)
  ) o
  WHERE e.lost
),
touched AS MATERIALIZED (  -- waiting for anybody not locked before could deadlock
  (SELECT told_id AS customer_id FROM told UNION SELECT customer_id FROM effect)
  INTERSECT ({unpack({"locked": "bigint"})})
),
after AS (
  SELECT c.place, c.id, c.segment, c.segment_manual, c.segment_pinned, c.segment_pinned_until,
    c.segment_held_since, GREATEST(t.newest_order, e.last_gained) AS newest_order,
    {_register("name")}, {_register("phone")}, {_register("address")},
    LEAST(c.date_created, t.earliest_order) AS date_created,
    CAST(c.total_orders + coalesce(e.orders, 0) AS integer) AS total_orders,
    c.total_spent + coalesce(e.spent, 0) AS total_spent,
    LEAST(CASE WHEN e.lost THEN r.first ELSE c.first_order_date END, e.first_gained)
      AS first_order_date,
    GREATEST(CASE WHEN e.lost THEN r.last ELSE c.last_order_date END, e.last_gained)
      AS last_order_date
  FROM touched
  LEFT JOIN told t ON t.told_id = touched.customer_id
  LEFT JOIN effect e ON e.customer_id = touched.customer_id
  LEFT JOIN remaining r ON r.customer_id = touched.customer_id
  CROSS JOIN LATERAL (
    SELECT ctid AS place, * FROM customers WHERE id = touched.customer_id OFFSET 0
  ) c
  WHERE e.customer_id IS NOT NULL  -- else nothing new was told of them: leave the row alone
     OR c.segment_sequence = 0
     OR t.earliest_order < c.date_created
     OR t.newest_order > c.segment_held_since
     OR {_told_later("name")} OR {_told_later("phone")} OR {_told_later("address")}
)"""

# What was stored before of the orders that were not simply new. Where nothing was written, the
# table itself says it: a statement does not see its own changes.
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
"""

_DATED = """
TABLE created
UNION ALL SELECT new_date, 0, 1, new_net FROM written WHERE new_counts
UNION ALL SELECT old_date, 0, -1, -old_net FROM written WHERE old_counts
"""

_APPLY = text(settle_sql(_SOURCE, _RESULT, _DATED))


@dataclass(frozen=True)
class Locked:
    """The customers a batch concerns, locked until its transaction ends."""

    ids: frozenset[int]
    ours: frozenset[int]
    """Those named by our id, and known by it before the batch created anybody."""
    by_email: dict[str, int]
    """Whose an e-mail is; if it is nobody's, whose it was."""
    erased: dict[str, datetime]
    """Orders placed until then name nobody by that e-mail."""
    now: datetime

    def resolve(self, event: OrderEvent) -> int | None:
        """Find whom an event names: by our id when it is one, else by e-mail."""
        person = event.person
        if person is None:
            return None
        if person.number in self.ours:
            return person.number
        key = person.email_key
        if key is None:
            return None
        if key in self.erased and event.date_created <= self.erased[key]:
            return ERASED
        return self.by_email.get(key)


async def apply_events(
    connection: AsyncConnection, events: Sequence[OrderEvent], now: datetime | None = None
) -> Counter[Outcome]:
    """Apply events to orders, customers, segments and counters; the caller commits.

    ``now`` is the moment by which segments are judged; None: the database's clock, read once the
    customers are locked, so that it never runs backwards for a customer.
    Returns what became of the events. Raises OwnerChangedError when the transaction must be
    run again from the start.
    """
    locked = await _lock(connection, events, now)
    changes = by_order(events, locked.resolve)
    result = await connection.execute(
        _APPLY,
        {
            **pack(_order_columns(changes)),
            **pack(_profile_columns(profiles(events, locked.resolve))),
            **pack({"locked": sorted(locked.ids)}),
            "now": locked.now,
            "cause": Cause.ORDER.value,
        },
    )
    known: dict[str, StoredOrder] = {}
    for row in result:
        if row.old_customer is not None and row.old_customer not in locked.ids:
            raise OwnerChangedError
        known[row.id] = _known(row)
    counted: Counter[Outcome] = Counter()
    for change in changes:
        counted += outcomes(change, known.get(change.order_id))
    return counted


async def _lock(
    connection: AsyncConnection, events: Sequence[OrderEvent], now: datetime | None
) -> Locked:
    people = [(event, event.person) for event in events if event.person]
    numbers = sorted({person.number for _, person in people if person.number is not None})
    ours: set[int] = set()
    if numbers:
        ours = set((await connection.execute(_KNOWN_IDS, {"numbers": numbers})).scalars())
    dates: defaultdict[str, list[datetime]] = defaultdict(list)
    for event, person in people:
        if person.number not in ours and (key := person.email_key):
            dates[key].append(event.date_created)
    email_keys = sorted(dates)
    if email_keys:
        await connection.execute(
            _CREATE,
            pack(
                {
                    "email_key": email_keys,
                    "earliest": [min(dates[key]) for key in email_keys],
                    "latest": [max(dates[key]) for key in email_keys],
                }
            ),
        )
    rows = (
        await connection.execute(
            _LOCK,
            pack(
                {
                    "email_key": email_keys,
                    "id": sorted(ours),
                    "order_id": [event.order_id for event in events],
                }
            ),
        )
    ).all()
    if now is None:
        now = rows[-1].locked_at if rows else await read_clock(connection)
    found = {row.email_key: row.id for row in reversed(rows) if row.id is not None}
    erased = {row.email_key: row.erased_at for row in rows if row.id is None}
    if any(key not in found and key not in erased for key in email_keys):
        raise OwnerChangedError
    ids = frozenset(found.values())
    return Locked(ids=ids, ours=ids & ours, by_email=found, erased=erased, now=now)


def _order_columns(changes: Sequence[OrderChange]) -> dict[str, list[Any]]:
    states = [change.state for change in changes]
    named = [change.named for change in changes]
    other_keys = [
        change.named[0] if change.named and change.named[0] != change.state.key else None
        for change in changes
    ]
    return {
        "id": [state.order_id for state in states],
        "version": [state.key.version for state in states],
        "updated_at": [state.key.at for state in states],
        "event_id": [state.key.event_id for state in states],
        "status": [state.status for state in states],
        "payment_status": [state.payment_status for state in states],
        "total_cents": [state.total_cents for state in states],
        "refunded_cents": [state.refunded_cents for state in states],
        "date_created": [state.date_created for state in states],
        "customer_id": [name and name[1] for name in named],
        "erased": [change.erased for change in changes],
        "named_version": [key and key.version for key in other_keys],
        "named_at": [key and key.at for key in other_keys],
        "named_event_id": [key and key.event_id for key in other_keys],
    }


def _profile_columns(told: Sequence[Profile]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {
        "told_id": [profile.customer_id for profile in told],
        "told_at": [profile.at for profile in told],
        "told_event": [profile.event_id for profile in told],
        "earliest_order": [profile.earliest_order for profile in told],
        "newest_order": [
            None if profile.latest_order == profile.earliest_order else profile.latest_order
            for profile in told
        ],
    }
    for name in ("name", "phone", "address"):
        registers = [getattr(profile, name) for profile in told]
        columns[name] = [register and register.value for register in registers]
        others = [
            register if register and register.event_id != profile.event_id else None
            for register, profile in zip(registers, told, strict=True)
        ]
        columns[f"{name}_at"] = [other and other.at for other in others]
        columns[f"{name}_event"] = [other and other.event_id for other in others]
    return columns


def _known(row: Row[Any]) -> StoredOrder:
    return StoredOrder(
        key=EventKey(row.was_version, row.was_updated_at, row.was_event_id),
        content=(
            row.was_status,
            row.was_payment_status,
            int(row.was_total * 100),
            int(row.was_refunded * 100),
            row.was_date_created,
        ),
    )
