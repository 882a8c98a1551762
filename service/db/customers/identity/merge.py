"""Merge two customers into one: the one with the lower number stays.

Orders, identifiers, interactions, tags and values of own fields move. Each register keeps the
greater key; an own field keeps the value of the one who stays. Consent is kept only where both had
it. What was done to the other one is found by their number, which leads to
the one who stays.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.customer_ids import customer_ref
from service.core.identity import MOST_IDENTIFIERS
from service.core.removal_event import RemovalReason
from service.db import registers
from service.db.accounts.audit import note
from service.db.customers import removals
from service.db.customers.identity.assignment import absorb
from service.db.customers.identity.naming import say_what_named
from service.db.customers.own_fields.values import hold_fields, join_fields
from service.db.customers.tags.tagging import join_tags
from service.db.locks import AdvisoryLock, lock_customers, try_lock
from service.db.segments import assign

BY_EVENTS = "order events"
"""Who merged two customers whom an event put together, for the audit."""


KEPT = (*registers.COLUMNS, "notes", "email_opt_in", "sms_opt_in", "own_fields")
"""Values of both customers that the audit keeps, so that a split can give them back."""


class NotTwoCustomersError(Exception):
    """One of the two does not exist, or they are the same; ``args[0]`` is the missing number."""


class Merged(NamedTuple):
    """What a merge did."""

    stays: int
    gone: int


_ROWS = text("""
SELECT c.id, to_jsonb(c) || jsonb_build_object('own_fields', f.field_values) AS row
FROM customers c LEFT JOIN customer_fields f ON f.customer_id = c.id WHERE c.id = ANY(:ids)
""")
_MOVE_ORDERS = text("UPDATE orders SET customer_id = :low WHERE customer_id = :high")
_MOVE_IDENTIFIERS = text("UPDATE identifiers SET customer_id = :low WHERE customer_id = :high")
_LEAD_TO_WHO_STAYS = text("""
INSERT INTO identifiers (identifier, customer_id, given_by)
VALUES ('customer:' || CAST(:high AS bigint), :low, :actor)
""")
_MOVE_INTERACTIONS = text("UPDATE interactions SET customer_id = :low WHERE customer_id = :high")
# Where both were contacted, or left out, in one round, what holds for the one who stays holds.
_MOVE_CONTACTS = text("""
UPDATE contacts c SET customer_id = :low WHERE customer_id = :high
  AND NOT EXISTS (SELECT FROM contacts o WHERE (o.round_id, o.customer_id) = (c.round_id, :low))
""")


def _move_pairs(table: str, columns: str) -> tuple[TextClause, ...]:
    """Return statements that make pairs with the one who goes pairs with the one who stays."""
    return tuple(
        map(
            text,
            (
                f"DELETE FROM {table} WHERE (low, high) = (:low, :high)",
                f"""
INSERT INTO {table} (low, high, {columns})
SELECT LEAST(other, :low), GREATEST(other, :low), {columns} FROM (
  SELECT low + high - :high AS other, {columns} FROM {table} WHERE :high IN (low, high)) theirs
ON CONFLICT DO NOTHING""",
                f"DELETE FROM {table} WHERE :high IN (low, high)",
            ),
        )
    )


_NOT_DUE = text("""
DELETE FROM pending_merges p WHERE :low IN (low, high)
  AND EXISTS (SELECT FROM separations s WHERE (s.low, s.high) = (p.low, p.high))
""")
_MOVES = (
    _MOVE_ORDERS,
    _MOVE_IDENTIFIERS,
    _LEAD_TO_WHO_STAYS,
    _MOVE_INTERACTIONS,
    _MOVE_CONTACTS,
    *_move_pairs("pending_merges", "since, protected"),
    *_move_pairs("separations", "decided_by, decided_at"),
    _NOT_DUE,
)
_KEEP = text("""
UPDATE customers SET email_opt_in = email_opt_in AND :email_opt_in,
  sms_opt_in = sms_opt_in AND :sms_opt_in,
  notes = CASE WHEN :notes IN ('', notes) THEN notes
               WHEN notes = '' THEN :notes ELSE notes || E'\\n\\n' || :notes END
WHERE id = :id
""")
_DUE = text("SELECT low, high FROM pending_merges WHERE NOT protected ORDER BY low, high LIMIT 1")
_SIZES = text("""
SELECT max(n) FROM (
  SELECT count(*) AS n FROM identifiers WHERE customer_id IN (:low, :high) GROUP BY customer_id
) sizes
""")
_PROTECT = text("UPDATE pending_merges SET protected = true WHERE (low, high) = (:low, :high)")
_DROP = text("DELETE FROM pending_merges WHERE (low, high) = (:low, :high)")


class Waiting(NamedTuple):
    """Pairs of customers whom events have put together, and who are two still."""

    due: int
    """A worker merges them."""
    oldest_due_seconds: float
    """The age of the oldest of these; 0 if there is none."""
    protected: int
    """One of them has too many identifiers: a person decides."""


_WAITING = text("""
SELECT count(*) FILTER (WHERE NOT protected) AS due,
  CAST(coalesce(extract(epoch FROM clock_timestamp() - min(since) FILTER (WHERE NOT protected)), 0)
    AS float8) AS oldest_due_seconds,
  count(*) FILTER (WHERE protected) AS protected
FROM pending_merges
""")


async def waiting(connection: AsyncConnection) -> Waiting:
    """Return how many pairs of customers wait to be merged."""
    return Waiting(*(await connection.execute(_WAITING)).one())


async def merge(
    connection: AsyncConnection, one: int, other: int, actor: str, now: datetime | None = None
) -> Merged:
    """Merge two customers; the caller commits. Raises NotTwoCustomersError.

    Segments are judged at ``now``. None means the database's clock, read after the lock.
    """
    low, high = sorted((one, other))
    await hold_fields(connection)
    locked_at = await lock_customers(connection, [low, high])
    found = {row.id: row.row for row in await connection.execute(_ROWS, {"ids": [low, high]})}
    if low == high or len(found) < 2:  # noqa: PLR2004
        raise NotTwoCustomersError(high if high not in found or low == high else low)
    gone: Mapping[str, Any] = found[high]
    await say_what_named(connection, [low, high])
    for statement in _MOVES:
        await connection.execute(statement, {"low": low, "high": high, "actor": actor})
    await join_tags(connection, low, high)
    await join_fields(connection, low, high)
    await assign.forget(connection, high)
    await removals.add(connection, [high], RemovalReason.MERGED, merged_into=low)
    await connection.execute(
        _KEEP, {"id": low, **{name: gone[name] for name in ("email_opt_in", "sms_opt_in", "notes")}}
    )
    await absorb(connection, low, gone, now or locked_at)
    await note(
        connection,
        actor,
        "customer.merged",
        customer_id=low,
        details={
            "other": customer_ref(high),
            "gone": _kept(gone),
            "stayed": _kept(found[low]),
        },
    )
    return Merged(low, high)


def _kept(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the audit keeps of a customer. The event id of a typed value is empty."""
    return {name: row[name] for name in KEPT if row[name] is not None}


async def merge_next(connection: AsyncConnection, now: datetime | None = None) -> int | None:
    """Merge the next two customers whom an event has put together; the caller commits.

    Return 1, or 0 if a person has to decide about them. None if nobody is due to be merged, or if
    another replica merges.
    """
    if not await try_lock(connection, AdvisoryLock.MERGES):
        return None
    pair = (await connection.execute(_DUE)).one_or_none()
    if pair is None:
        return None
    low, high = pair
    await hold_fields(connection)
    await lock_customers(connection, [low, high])
    names = {"low": low, "high": high}
    size = (await connection.execute(_SIZES, names)).scalar() or 0
    if size > MOST_IDENTIFIERS:
        await connection.execute(_PROTECT, names)
        return 0
    try:
        await merge(connection, low, high, BY_EVENTS, now)
    except NotTwoCustomersError:  # one of them is gone meanwhile
        await connection.execute(_DROP, names)
        return 0
    return 1
