"""Identifiers mean customers who exist, and orders belong to whom theirs mean (9).

All orders are joined with their identifiers once. What differs is rare, and only that is looked at
by `naming.OWNER_OF_ORDER`, the rule of the service itself.
"""

from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.identifiers import IdentifierKind, email_identifier, email_key
from service.db.customers.erasure_keys import identifier_hash
from service.db.customers.identity.naming import OWNER_OF_ORDER, PUT_TOGETHER
from service.db.operations.verify.findings import (
    MOST_SHOWN,
    REBUILD,
    RESTORE,
    Check,
    Fault,
    fault_if,
)

_ERASED = f"EXISTS (SELECT FROM erased e WHERE e.email_hash = {identifier_hash('{}')})"


def _erased(identifier: str) -> str:
    """Return SQL for whether an identifier is that of an erased person."""
    return _ERASED.format(identifier)


_OF_A_KIND = " OR ".join(f"starts_with({{0}}, '{kind}:')" for kind in IdentifierKind)
_FORM = text(f"""
SELECT customer_id AS customer, left(identifier, 10) AS begins FROM identifiers
WHERE NOT ({_OF_A_KIND.format("identifier")}) LIMIT :most
""")
DANGLING_SQL = """
SELECT i.identifier, i.customer_id FROM identifiers i LEFT JOIN customers c ON c.id = i.customer_id
WHERE i.customer_id IS NOT NULL AND c.id IS NULL
"""
"""A query for the identifiers that mean a customer who does not exist."""
DANGLING = text(f"""
SELECT customer_id AS customer, count(*) AS identifiers FROM ({DANGLING_SQL}) d
GROUP BY customer_id LIMIT :most
""")
STAYS_SQL = """
SELECT i.identifier, c.id, i.customer_id FROM identifiers i
JOIN customers c ON c.id = CAST(substr(i.identifier, 10) AS bigint)
WHERE i.identifier ~ '^customer:[0-9]{1,18}$'
"""
"""A query for the ids of customers who exist, and that lead to somebody all the same."""
STAYS = text(f"SELECT id AS customer, customer_id AS leads_to FROM ({STAYS_SQL}) s LIMIT :most")

MERGED_SQL = f"""
WITH RECURSIVE merged AS (
  SELECT DISTINCT ON (a.details ->> 'other') a.customer_id AS low, a.actor,
    CAST(substr(a.details ->> 'other', 6) AS bigint) AS high
  FROM audit a WHERE a.action = 'customer.merged' AND a.details ->> 'other' ~ '^CUST-[0-9]{{1,18}}$'
  ORDER BY a.details ->> 'other', a.id DESC
),
lost AS (
  SELECT m.high, m.low, m.actor FROM merged m
  WHERE NOT EXISTS (SELECT FROM identifiers i WHERE i.identifier = 'customer:' || m.high)
    AND NOT EXISTS (SELECT FROM customers c WHERE c.id = m.high)
    AND NOT {_erased("'customer:' || m.high")}
),
followed AS (
  SELECT high, low AS stays, actor FROM lost
  UNION
  SELECT f.high, m.low, f.actor FROM followed f JOIN merged m ON m.high = f.stays
)
SELECT f.high, f.stays, f.actor FROM followed f JOIN customers c ON c.id = f.stays
"""
"""A query for merged customers whose ids lead nowhere, and to whom they should lead."""
MERGED = text(f"SELECT high AS customer, stays FROM ({MERGED_SQL}) m LIMIT :most")

OWN_EMAIL_SQL = """
SELECT c.id, c.email_key, i.customer_id AS owner, i.identifier IS NOT NULL AS known
FROM customers c LEFT JOIN identifiers i ON i.identifier = 'email:' || c.email_key
WHERE c.email_key IS NOT NULL AND i.customer_id IS DISTINCT FROM c.id
  AND NOT EXISTS (  -- a worker of the release before wrote it, and the two are merged soon
    SELECT FROM pending_merges p
    WHERE (p.low, p.high) = (LEAST(c.id, i.customer_id), GREATEST(c.id, i.customer_id)))
"""
"""A query for customers whose own e-mail is not one of their identifiers."""
OWN_EMAIL = text(f"SELECT id AS customer, owner FROM ({OWN_EMAIL_SQL}) o LIMIT :most")

MARKS_SQL = """
SELECT last.identifier, last.actor, i.customer_id FROM (
  SELECT DISTINCT ON (a.details ->> 'identifier') a.details ->> 'identifier' AS identifier,
    a.action, a.actor
  FROM audit a WHERE a.action LIKE 'identifier.%' AND a.details ? 'identifier'
  ORDER BY a.details ->> 'identifier', a.id DESC
) last LEFT JOIN identifiers i ON i.identifier = last.identifier COLLATE "C"
WHERE last.action = 'identifier.marked' AND (i.identifier IS NULL OR i.customer_id IS NOT NULL)
"""
"""A query for identifiers that staff marked as no person, and that are not marked now."""
MARKS = text(f"SELECT customer_id AS customer FROM ({MARKS_SQL}) m LIMIT :most")

# Orders with the same identifiers and customer are one row. Joined as they are, with the memory of
# a connection, five million orders took four times as long.
SUSPECTS = """
suspects AS MATERIALIZED (
  SELECT o.*, i.identifier IS NOT NULL AS known FROM (
    SELECT customer_id, identifier, other_identifier, erased, min(id) AS id, count(*) AS orders
    FROM orders WHERE identifier IS NOT NULL OR other_identifier IS NOT NULL
    GROUP BY customer_id, identifier, other_identifier, erased
  ) o
  LEFT JOIN identifiers i ON i.identifier = o.identifier
  LEFT JOIN identifiers j ON j.identifier = o.other_identifier
  WHERE i.identifier IS NULL OR i.customer_id IS DISTINCT FROM o.customer_id
    OR o.other_identifier IS NOT NULL AND (
      j.identifier IS NULL OR j.customer_id IS DISTINCT FROM o.customer_id
      OR o.other_identifier = o.identifier)
)"""
"""A CTE: the orders that do not simply belong to whom each of their identifiers means."""
UNKNOWN_SQL = """
SELECT identifier, min(customer_id) AS customer_id, max(customer_id) AS other_customer,
  min(id) AS id, sum(orders) AS orders
FROM suspects
WHERE NOT known AND NOT erased AND identifier NOT LIKE 'customer:%' GROUP BY identifier
"""
"""A query, of `SUSPECTS`, for identifiers that named orders and that nobody has."""
OWNERS_SQL = f"""
SELECT o.*, {OWNER_OF_ORDER} AS owner FROM suspects o
WHERE o.identifier IS NOT NULL AND {OWNER_OF_ORDER} IS DISTINCT FROM o.customer_id
"""
"""A query, of `SUSPECTS`, for orders that belong to somebody else than their identifiers say."""
_ALONE_SQL = f"""
SELECT id, orders, customer_id FROM suspects
WHERE other_identifier IS NOT NULL AND (
  identifier IS NULL OR other_identifier = identifier
  OR NOT ({_OF_A_KIND.format("other_identifier")}))
"""
DUE_SQL = PUT_TOGETHER.format(orders="suspects", condition="true")
"""A query, of `SUSPECTS`, for customers whom an order puts together, and who are not due to be
merged."""
_ORDER_FAULTS = {
    "an order was named by an identifier that nobody has": (
        REBUILD,
        f'SELECT id AS "order", orders, customer_id AS customer FROM ({UNKNOWN_SQL}) u',
    ),
    "an order belongs to somebody else than its identifiers say": (
        REBUILD,
        f'SELECT id AS "order", orders, customer_id AS customer, owner FROM ({OWNERS_SQL}) w',
    ),
    "an order has a second identifier that is none": (
        RESTORE,
        f'SELECT id AS "order", orders, customer_id AS customer FROM ({_ALONE_SQL}) a',
    ),
    "an order puts two customers together who are not due to be merged": (
        REBUILD,
        f"SELECT low AS customer, high AS other FROM ({DUE_SQL}) d",
    ),
}
UNKNOWN, OWNERS, _, DUE = _ORDER_FAULTS
_ORDERS = text(
    f"WITH {SUSPECTS} "
    + " UNION ALL ".join(
        f"(SELECT '{what}' AS what, to_jsonb(f) AS row FROM ({query} LIMIT :most) f)"
        for what, (_remedy, query) in _ORDER_FAULTS.items()
    )
)
_LATE = text("""
SELECT low AS customer, high AS other, since FROM pending_merges
WHERE NOT protected AND since < CAST(:now AS timestamptz) - interval '10 minutes' LIMIT :most
""")
PAIRS_SQL = """
SELECT pair, low, high FROM (
  SELECT 'pending_merges' AS pair, low, high FROM pending_merges
  UNION ALL SELECT 'separations', low, high FROM separations
) p
WHERE NOT EXISTS (SELECT FROM customers WHERE id = low)
   OR NOT EXISTS (SELECT FROM customers WHERE id = high)
"""
"""A query for pairs of customers of whom one does not exist."""
PAIRS = text(f"SELECT pair, low AS customer, high AS other FROM ({PAIRS_SQL}) p LIMIT :most")

IDENTITY = (
    Check(
        "an identifier is of no kind that there is",
        f"{RESTORE} Or delete the row of `identifiers`: no event has such an identifier.",
        _FORM,
    ),
    Check("an identifier means a customer who does not exist", REBUILD, DANGLING),
    Check("the id of a customer who exists leads to somebody else", REBUILD, STAYS),
    Check("the id of a merged customer leads nowhere", REBUILD, MERGED),
    Check("a customer's own e-mail is not one of their identifiers", REBUILD, OWN_EMAIL),
    Check("an identifier is not marked as no person any more", REBUILD, MARKS),
    Check(
        "two customers have been due to be merged for more than ten minutes",
        "Start a worker: it merges them. If one runs, its log says what keeps it from merging.",
        _LATE,
    ),
    Check("a pair of customers has one who does not exist", REBUILD, PAIRS),
)

# Whom an e-mail means that staff replaced is written nowhere else, if no order came with it. An
# e-mail that staff took away, or unmarked, means nobody any more.
_REPLACED = text("""
SELECT DISTINCT ON (e.email) e.email, e.customer_id FROM (
  SELECT a.id, a.customer_id, a.details -> 'email' ->> 0 AS email FROM audit a
  WHERE a.action = 'customer.updated' AND jsonb_typeof(a.details -> 'email') = 'array'
) e
WHERE e.email IS NOT NULL AND NOT EXISTS (
  SELECT FROM identifiers i WHERE i.identifier = 'email:' || lower(e.email))
ORDER BY e.email, e.id DESC
""")
_LEADS_TO = f"""
SELECT CAST(:id AS bigint) AS id, CAST(:identifier AS text) AS identifier
WHERE NOT EXISTS (SELECT FROM identifiers i WHERE i.identifier = CAST(:identifier AS text))
  AND NOT {_erased("CAST(:identifier AS text)")}
  AND NOT EXISTS (
    SELECT FROM audit a WHERE a.action LIKE 'identifier.%'
      AND a.details ->> 'identifier' = CAST(:identifier AS text))
"""
_STILL = text(f"""
SELECT coalesce(c.id, i.customer_id) AS customer, w.identifier FROM ({_LEADS_TO}) w
LEFT JOIN customers c ON c.id = w.id
LEFT JOIN identifiers i ON i.identifier = 'customer:' || w.id
WHERE coalesce(c.id, i.customer_id) IS NOT NULL
""")


async def replaced_emails(
    connection: AsyncConnection, most: int | None = None
) -> list[tuple[int, str]]:
    """Return e-mails that staff replaced and that mean nobody, and the customers they should mean.

    Only Python knows the normal form of an e-mail, so Postgres finds the suspects.
    """
    found = dict[str, int]()
    for row in (await connection.execute(_REPLACED)).all():
        key = email_key(row.email)
        if key is None:
            continue
        names = {"id": row.customer_id, "identifier": email_identifier(key)}
        still = (await connection.execute(_STILL, names)).one_or_none()
        if still is not None:
            found[still.identifier] = still.customer
        if len(found) == most:
            break
    return [(customer, identifier) for identifier, customer in sorted(found.items())]


async def replaced_email_faults(connection: AsyncConnection) -> list[Fault]:
    """Return the customers of whom an e-mail that staff replaced means nobody any more."""
    found: list[dict[str, Any]] = [
        {"customer": customer} for customer, _ in await replaced_emails(connection, MOST_SHOWN)
    ]
    return fault_if(found, "an e-mail that staff replaced means nobody any more", REBUILD)


async def order_faults(connection: AsyncConnection) -> list[Fault]:
    """Return the orders that do not belong to whom their identifiers mean."""
    found: dict[str, list[dict[str, Any]]] = {what: [] for what in _ORDER_FAULTS}
    for row in await connection.execute(_ORDERS, {"most": MOST_SHOWN}):
        found[row.what].append(row.row)
    return [
        fault
        for what, offenders in found.items()
        for fault in fault_if(offenders, what, _ORDER_FAULTS[what][0])
    ]
