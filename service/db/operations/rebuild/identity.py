"""Mend whom identifiers mean, and give orders back to whom they mean.

What the audit says comes first: marks, and the ids of merged customers. Then come customers' own
e-mails, and then the orders, whose owners follow from all that.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.customers.erasure_keys import identifier_hash
from service.db.customers.identity.naming import OWNER_OF_ORDER
from service.db.customers.identity.own_email import keep_own_email
from service.db.locks import lock_customers
from service.db.operations.rebuild.mend import Mend, by, execute
from service.db.operations.verify import identity, metrics

_STAYS = f"""
DELETE FROM identifiers i USING ({identity.STAYS_SQL}) s WHERE i.identifier = s.identifier
"""
_MERGED = f"""
INSERT INTO identifiers (identifier, customer_id, given_by)
SELECT 'customer:' || high, stays, actor FROM ({identity.MERGED_SQL}) m ON CONFLICT DO NOTHING
"""
# If the customer was merged, their id leads on. If not, nobody knows whom the identifier means, and
# the next event that has it creates a customer. With the row, every batch that names it fails.
_DANGLING = (
    text(f"""
UPDATE identifiers i SET customer_id = r.customer_id
FROM ({identity.DANGLING_SQL}) d
JOIN identifiers r ON r.identifier = 'customer:' || d.customer_id
JOIN customers c ON c.id = r.customer_id
WHERE i.identifier = d.identifier
"""),
    text(f"""
DELETE FROM identifiers i USING ({identity.DANGLING_SQL}) d WHERE i.identifier = d.identifier
"""),
)
_MARKS = f"""
INSERT INTO identifiers (identifier, given_by)
SELECT identifier, actor FROM ({identity.MARKS_SQL}) m
ON CONFLICT (identifier) DO UPDATE SET customer_id = NULL, given_by = excluded.given_by
"""
_OWN_EMAIL = text(identity.OWN_EMAIL_SQL)
_GIVE = text("""
INSERT INTO identifiers (identifier, customer_id) VALUES (:identifier, :id) ON CONFLICT DO NOTHING
""")
_CLEAR_EMAIL = text("""
UPDATE customers SET email = NULL, email_key = NULL, email_at = NULL, email_event = NULL
WHERE id = ANY(:ids)
""")
# Orders that an erased person left behind, then those of one customer. Whose the others are, they
# say themselves, as orders do that an earlier release named.
_UNKNOWN = (
    text(f"""
WITH {identity.SUSPECTS}
UPDATE orders o SET identifier = NULL, other_identifier = NULL, erased = true
FROM ({identity.UNKNOWN_SQL}) u
WHERE o.identifier = u.identifier AND o.customer_id IS NULL AND EXISTS (
  SELECT FROM erased e
  WHERE e.email_hash = {identifier_hash("u.identifier")} AND o.date_created <= e.erased_at)
"""),
    text(f"""
WITH {identity.SUSPECTS}
INSERT INTO identifiers (identifier, customer_id)
SELECT u.identifier, c.id FROM ({identity.UNKNOWN_SQL}) u JOIN customers c ON c.id = u.customer_id
WHERE u.customer_id = u.other_customer AND NOT EXISTS (
  SELECT FROM erased e WHERE e.email_hash = {identifier_hash("u.identifier")})
ORDER BY u.identifier ON CONFLICT DO NOTHING
"""),
    text(f"""
WITH {identity.SUSPECTS}
UPDATE orders o SET identifier = NULL, other_identifier = NULL,
  named_version = CASE WHEN o.customer_id IS NOT NULL THEN o.named_version END,
  named_at = CASE WHEN o.customer_id IS NOT NULL THEN o.named_at END,
  named_event_id = CASE WHEN o.customer_id IS NOT NULL THEN o.named_event_id END
FROM ({identity.UNKNOWN_SQL}) u WHERE o.identifier = u.identifier AND NOT o.erased
"""),
)
# If nothing says whose the order is, the event that named them is forgotten, so that it attaches
# the order again when it is read again.
_ORPHANS = f"""
WITH orphans AS MATERIALIZED (
  SELECT o.id, {OWNER_OF_ORDER} AS owner,
    EXISTS (SELECT FROM identifiers i WHERE i.identifier = o.identifier) AS known,
    EXISTS (SELECT FROM audit a WHERE a.customer_id = o.customer_id
            AND a.action = 'customer.erased') AS erased
  FROM orders o
  WHERE o.customer_id IS NOT NULL
    AND NOT EXISTS (SELECT FROM customers c WHERE c.id = o.customer_id)
)
UPDATE orders o SET customer_id = g.owner, erased = o.erased OR g.owner IS NULL AND g.erased,
  identifier = CASE WHEN keep THEN o.identifier END,
  other_identifier = CASE WHEN keep THEN o.other_identifier END,
  named_version = CASE WHEN keep OR o.erased OR g.erased THEN o.named_version END,
  named_at = CASE WHEN keep OR o.erased OR g.erased THEN o.named_at END,
  named_event_id = CASE WHEN keep OR o.erased OR g.erased THEN o.named_event_id END
FROM (SELECT *, owner IS NOT NULL OR known AS keep FROM orphans) g WHERE o.id = g.id
"""
_OWNERS = f"""
WITH {identity.SUSPECTS}
UPDATE orders o SET customer_id = w.owner FROM ({identity.OWNERS_SQL}) w
WHERE o.identifier = w.identifier
  AND o.other_identifier IS NOT DISTINCT FROM w.other_identifier
  AND o.customer_id IS NOT DISTINCT FROM w.customer_id
"""
_DUE = f"""
WITH {identity.SUSPECTS}
INSERT INTO pending_merges (low, high)
SELECT low, high FROM ({identity.DUE_SQL}) d ORDER BY low, high ON CONFLICT DO NOTHING
"""
_PAIRS = tuple(
    text(f"""
DELETE FROM {table} p USING ({identity.PAIRS_SQL}) w
WHERE w.pair = '{table}' AND (p.low, p.high) = (w.low, w.high)
""")
    for table in ("pending_merges", "separations")
)


def _one_after_the_other(
    statements: tuple[TextClause, ...],
) -> Callable[[AsyncConnection], Awaitable[int]]:
    async def write(connection: AsyncConnection) -> int:
        return sum([await execute(statement, connection) for statement in statements])

    return write


def _with(sql: str) -> Callable[[AsyncConnection], Awaitable[int]]:
    return partial(execute, text(sql))


def _among_orders(what: str) -> Callable[[AsyncConnection], Awaitable[list[dict[str, Any]]]]:
    """Return a function that finds one of the faults of orders."""

    async def find(connection: AsyncConnection) -> list[dict[str, Any]]:
        faults = await identity.order_faults(connection)
        return [row for fault in faults if fault.what == what for row in fault.offenders]

    return find


async def _own_emails(connection: AsyncConnection) -> int:
    """Give customers their own e-mail, or, if it means somebody else, another one of theirs."""
    found = (await connection.execute(_OWN_EMAIL)).all()
    await lock_customers(connection, sorted(row.id for row in found))
    for row in found:
        if not row.known:
            names = {"identifier": f"email:{row.email_key}", "id": row.id}
            await connection.execute(_GIVE, names)
    others = sorted(row.id for row in found if row.known)
    await connection.execute(_CLEAR_EMAIL, {"ids": others})
    await keep_own_email(connection, others)
    return len(found)


async def _find_replaced(connection: AsyncConnection) -> list[dict[str, Any]]:
    faults = await identity.replaced_email_faults(connection)
    return [row for fault in faults for row in fault.offenders]


async def _replaced(connection: AsyncConnection) -> int:
    found = await identity.replaced_emails(connection)
    for customer_id, identifier in found:
        await connection.execute(_GIVE, {"identifier": identifier, "id": customer_id})
    return len(found)


IDENTITY = (
    Mend("ids of customers who exist led to somebody else", by(identity.STAYS), _with(_STAYS)),
    Mend("ids of merged customers led nowhere", by(identity.MERGED), _with(_MERGED)),
    Mend(
        "identifiers meant customers who do not exist",
        by(identity.DANGLING),
        _one_after_the_other(_DANGLING),
        "The next event that has one of them creates a customer.",
    ),
    Mend("identifiers were not marked as no person any more", by(identity.MARKS), _with(_MARKS)),
    Mend(
        "customers' own e-mails were not among their identifiers",
        by(identity.OWN_EMAIL),
        _own_emails,
    ),
    Mend("e-mails that staff replaced meant nobody any more", _find_replaced, _replaced),
    Mend(
        "orders belonged to a customer who does not exist",
        by(metrics.DANGLING),
        _with(_ORPHANS),
        "Orders belong to whom their identifiers mean. Those of an erased person stay without "
        "one. The others are unattributed now: `crm replay --since TIME` attaches those whose "
        "events Redis still has.",
    ),
    Mend(
        "orders were named by identifiers that nobody had",
        _among_orders(identity.UNKNOWN),
        _one_after_the_other(_UNKNOWN),
        "`crm replay --since TIME` attaches those that are unattributed now, if Redis still has "
        "their events.",
    ),
    Mend(
        "orders belonged to somebody else than their identifiers say",
        _among_orders(identity.OWNERS),
        _with(_OWNERS),
    ),
    Mend(
        "pairs of customers had one who does not exist",
        by(identity.PAIRS),
        _one_after_the_other(_PAIRS),
    ),
    Mend(
        "customers whom an order puts together were not due to be merged",
        _among_orders(identity.DUE),
        _with(_DUE),
    ),
)
"""In this order: each relies on those before it."""
