"""Find the customers whom a batch names, create missing ones, and lock everybody concerned.

Customers are created in the order of their e-mails and locked in the order of their ids. Every
writer does the same, so that writers cannot deadlock.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.batch import ERASED, Owner
from service.core.order_event import OrderEvent
from service.db.columns import pack, unpack
from service.db.customers.erasure_keys import email_hash, pseudonym_sql


class OwnerChangedError(Exception):
    """An order or e-mail went to another customer while we waited for locks.

    The transaction must run again from the start.
    """


_KNOWN_IDS = text("SELECT id FROM customers WHERE id = ANY(:numbers)")

# The key is stored as the e-mail, too, because it must not matter which spelling came first.
# Skips e-mails that a customer has, or had before a correction. Skips erased e-mails, too, unless
# an order that names them was placed after the erasure.
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

# Locks the customers whom the batch names and those whose orders it touches. For an erased e-mail
# it returns the time of the erasure and no id. A customer who had an e-mail before a correction
# comes after its current owner. The last row is about the batch, and its clock is read after the
# last lock. While no id was ever replaced by a pseudonym, nobody looks for pseudonyms.
_LOCK = text(f"""
WITH formerly AS MATERIALIZED (
  SELECT f.customer_id AS id, n.email_key FROM ({unpack({"email_key": "text"})}) n
  CROSS JOIN LATERAL (
    SELECT customer_id FROM former_emails WHERE email_key = n.email_key OFFSET 0) f
  WHERE EXISTS (SELECT FROM former_emails)
),
stored AS MATERIALIZED (
  SELECT o.customer_id, o.erased FROM ({unpack({"order_id": "text"})}) n CROSS JOIN LATERAL (
    SELECT customer_id, erased FROM orders WHERE id = n.order_id OFFSET 0) o
  UNION ALL
  SELECT o.customer_id, true FROM ({unpack({"order_id": "text"})}) n CROSS JOIN LATERAL (
    SELECT customer_id FROM orders WHERE id = {pseudonym_sql("n.order_id")} OFFSET 0) o
  WHERE (SELECT ids_replaced FROM installation) > 0
),
concerned AS MATERIALIZED (
  SELECT c.id FROM ({unpack({"email_key": "text"})}) e CROSS JOIN LATERAL (
    SELECT id FROM customers WHERE email_key = e.email_key OFFSET 0) c
  UNION SELECT id FROM formerly
  UNION SELECT id FROM ({unpack({"id": "bigint"})}) i
  UNION SELECT customer_id FROM stored
),
locked AS MATERIALIZED (
  SELECT c.id, c.email_key FROM (SELECT id FROM concerned ORDER BY id) k CROSS JOIN LATERAL (
    SELECT id, email_key FROM customers WHERE id = k.id FOR NO KEY UPDATE) c
)
SELECT id, email_key, CAST(NULL AS timestamptz) AS erased_at,
  CAST(NULL AS timestamptz) AS locked_at, CAST(NULL AS bigint) AS ids_replaced,
  CAST(NULL AS boolean) AS touches_erased, CAST(NULL AS bytea) AS salt
FROM locked
UNION ALL
SELECT id, f.email_key, NULL, NULL, NULL, NULL, NULL FROM formerly f JOIN locked USING (id)
UNION ALL
SELECT NULL, n.email_key, e.erased_at, NULL, NULL, NULL, NULL
FROM ({unpack({"email_key": "text"})}) n
JOIN erased e ON e.email_hash = {email_hash("n.email_key")}
WHERE EXISTS (SELECT FROM erased)
UNION ALL
SELECT NULL, NULL, NULL, clock_timestamp(), ids_replaced,
  EXISTS (SELECT FROM stored WHERE erased), salt
FROM installation
""")


@dataclass(frozen=True)
class Owners:
    """The customers whom the events of a batch name. Everybody concerned is locked."""

    of_events: Sequence[Owner]
    """The customer whom each event names, in the order of the events."""
    locked: frozenset[int]
    """The customers whom the batch names, and those whose orders it touches."""
    locked_at: datetime
    """The database's clock, read after the last lock."""
    touch_erased: bool
    """An event names somebody who was erased, or belongs to an order of such a person."""
    ids_replaced: int
    """How many ids had been replaced by pseudonyms when the orders of the batch were looked up."""
    salt: bytes
    """The salt of pseudonyms."""


async def lock_owners(connection: AsyncConnection, events: Sequence[OrderEvent]) -> Owners:
    """Create the customers who are missing and lock everybody concerned.

    Raises OwnerChangedError if an e-mail changed hands meanwhile.
    """
    customers = [(event, event.customer) for event in events if event.customer]
    numbers = sorted({customer.number for _, customer in customers if customer.number is not None})
    known: set[int] = set()
    if numbers:
        known = set((await connection.execute(_KNOWN_IDS, {"numbers": numbers})).scalars())
    dates: defaultdict[str, list[datetime]] = defaultdict(list)
    for event, customer in customers:
        if customer.number not in known and (key := customer.email_key):
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
    parameters: dict[str, Sequence[object]] = {
        "email_key": email_keys,
        "id": sorted(known),
        "order_id": [event.order_id for event in events],
    }
    *rows, batch = (await connection.execute(_LOCK, pack(parameters))).all()
    by_email = {row.email_key: row.id for row in reversed(rows) if row.id is not None}
    erased = {row.email_key: row.erased_at for row in rows if row.id is None}
    if any(key not in by_email and key not in erased for key in email_keys):
        raise OwnerChangedError
    locked = frozenset(by_email.values())
    candidates = _Candidates(locked & known, by_email, erased)
    of_events = [candidates.owner_of(event) for event in events]
    return Owners(
        of_events=of_events,
        locked=locked,
        locked_at=batch.locked_at,
        touch_erased=batch.touches_erased or ERASED in of_events,
        ids_replaced=batch.ids_replaced,
        salt=batch.salt,
    )


@dataclass(frozen=True)
class _Candidates:
    numbers: frozenset[int]
    """Customers whom events name by an id that existed before the batch."""
    by_email: dict[str, int]
    """The current owner of each e-mail. If it has none, the customer who had it before."""
    erased: dict[str, datetime]
    """When each e-mail was erased. Orders placed up to then name nobody by it."""

    def owner_of(self, event: OrderEvent) -> Owner:
        """Return the customer whom an event names: by an id of ours, else by e-mail."""
        customer = event.customer
        if customer is None:
            return None
        if customer.number in self.numbers:
            return customer.number
        key = customer.email_key
        if key is None:
            return None
        if key in self.erased and event.date_created <= self.erased[key]:
            return ERASED
        return self.by_email.get(key)
