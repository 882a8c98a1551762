"""Write the customers of a file as if a person had typed them in.

A line creates a customer, changes the one whom its e-mail means, changes nothing, or is refused.
Without an e-mail, its id says whom it means. It is
planned first, without writing, so a dry run says what an import does. Segments and metrics follow
from the orders and never come from a file. An empty cell changes nothing.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.customer_ids import customer_ref
from service.core.order_event import EMAIL_REGISTER, REGISTERS
from service.core.segment_event import Cause
from service.db import registers
from service.db.accounts.audit import note
from service.db.columns import pack, unpack
from service.db.customers.erasure_keys import email_hash
from service.db.locks import lock_customers, read_clock
from service.db.search_text import search_text
from service.db.segments.assign import SLOT, THIS_SLOT, Hold, hold, reclassify
from service.db.statistics.daily import daily_totals_sql
from service.transfer.customer_lines import CustomerLine
from service.transfer.lines import LineFault, Verdict


class Planned(NamedTuple):
    """What a line will do. A line with a fault does nothing."""

    verdict: Verdict
    customer_id: int | None
    other_segment: bool
    """The customer exists, and is in another segment than the line says."""
    fault: LineFault | None = None


_REGISTERS = tuple(register for register in REGISTERS if register in CustomerLine._fields)
_CHANGED = tuple(register for register in _REGISTERS if register != EMAIL_REGISTER)
"""A file may have an e-mail that a customer had formerly. That does not make it their own again."""
_COLUMNS = {
    "place": "integer",
    "id": "bigint",
    "email_key": "text",
    **{register: registers.KINDS[register] for register in _REGISTERS},
    "notes": "text",
    "date_created": "timestamptz",
}
_LINES = unpack(_COLUMNS)


def _each(template: str, names: Sequence[str] = _CHANGED, between: str = ", ") -> str:
    return between.join(template.format(it=name) for name in names)


# The history of an id stays after its customer was erased, so the id is not given to somebody else.
_PLAN = text(f"""
SELECT l.place, c.id, c.segment, e.erased_at, t.id AS taken_by,
       i.identifier IS NOT NULL AND i.customer_id IS NULL AS no_person,
       EXISTS (SELECT FROM segment_changes h WHERE h.customer_id = l.id) AS used,
       c.id IS NOT NULL AND (
         {_each("coalesce(l.{it} <> coalesce(c.{it}, ''), false)", between=" OR ")}
         OR coalesce(l.notes <> c.notes, false)
         OR coalesce(l.date_created < c.date_created, false)) AS changes
FROM ({_LINES}) l
LEFT JOIN identifiers i ON i.identifier = 'email:' || l.email_key
LEFT JOIN customers c
  ON c.id = coalesce(i.customer_id, CASE WHEN l.email_key IS NULL THEN l.id END)
LEFT JOIN customers t ON t.id = l.id
LEFT JOIN erased e ON c.id IS NULL AND e.email_hash = {email_hash("l.email_key")}
""")
# A transaction that takes a number also inserts a customer. So no number is taken while the table
# is locked. Only the owner could lock the sequence itself.
_LOCK_NUMBERS = text("LOCK TABLE customers IN SHARE ROW EXCLUSIVE MODE")
# A sequence that was never used will give its `last_value` itself.
_LAST = text("SELECT last_value - CAST(NOT is_called AS integer) FROM customers_id_seq")
_SET_SEQUENCE = text("SELECT setval('customers_id_seq', :highest)")
# If somebody takes an e-mail or a number meanwhile, this fails, and the lines are planned again.
_CREATE = text(f"""
WITH l AS MATERIALIZED (
  SELECT coalesce(id, nextval('customers_id_seq')) AS number, email_key, notes, date_created,
    {", ".join(_REGISTERS)}
  FROM ({_LINES}) lines
),
known AS (
  INSERT INTO identifiers (identifier, customer_id, given_by)
  SELECT 'email:' || email_key, number, :actor FROM l WHERE email_key IS NOT NULL
  ORDER BY email_key COLLATE "C"
)
INSERT INTO customers (id, email_key,
  {", ".join(", ".join(registers.columns_of(it)) for it in _REGISTERS)}, notes, date_created)
SELECT number, email_key,
  {", ".join(map(registers.typed_values, _REGISTERS))},
  coalesce(notes, ''), coalesce(date_created, clock_timestamp())
FROM l ORDER BY number
RETURNING id
""")
_EDIT = (
    "'{it}', CASE WHEN old_{it} IS DISTINCT FROM new_{it}"
    " THEN jsonb_build_array(old_{it}, new_{it}) END"
)
_CHANGE = text(f"""
WITH l AS ({_LINES}),
changed AS (
  UPDATE customers c SET
    {", ".join(registers.typed_if_new(it, "l", "c") for it in _CHANGED)},
    notes = coalesce(l.notes, c.notes),
    date_created = LEAST(c.date_created, l.date_created),
    date_updated = clock_timestamp()
  FROM l WHERE c.id = l.id
  RETURNING c.id, {search_text("new")} AS searched,
    {_each("old.{it} AS old_{it}, new.{it} AS new_{it}", (*_CHANGED, "notes"))},
    old.date_created AS old_created, new.date_created AS new_created
),
found AS (
  INSERT INTO customer_search (customer_id, searched)
  SELECT id, searched FROM changed ORDER BY id
  ON CONFLICT (customer_id) DO UPDATE SET searched = excluded.searched
),
redated AS (
  SELECT old_created AS at, -1 AS created, 0 AS orders, 0.00 AS revenue
  FROM changed WHERE new_created <> old_created
  UNION ALL SELECT new_created, 1, 0, 0 FROM changed WHERE new_created <> old_created
),
{SLOT},
totalled AS ({daily_totals_sql("redated", THIS_SLOT)}
)
INSERT INTO audit (actor, action, customer_id, details)
SELECT CAST(:actor AS text), 'customer.updated', id, jsonb_strip_nulls(jsonb_build_object(
  {_each(_EDIT, (*_CHANGED, "notes"))},
  'dateCreated', CASE WHEN old_created <> new_created
                      THEN jsonb_build_array(old_created, new_created) END))
FROM changed ORDER BY id
""")
_NOTE_CREATED = text("""
INSERT INTO audit (actor, action, customer_id, details)
SELECT CAST(:actor AS text), 'customer.created', id, '{"imported": true}'
FROM unnest(CAST(:ids AS bigint[])) AS u(id)
""")


async def plan_customers(
    connection: AsyncConnection, lines: Sequence[CustomerLine]
) -> list[Planned]:
    """Return what each line will do; write nothing. No two lines may have one e-mail or one id."""
    if not lines:
        return []
    rows = await connection.execute(_PLAN, _packed(lines))
    by_place = {row.place: row for row in rows}
    return [_planned(line, by_place[place]) for place, line in enumerate(lines)]


def _planned(line: CustomerLine, row: Any) -> Planned:
    if row.id is not None:
        verdict = Verdict.CHANGED if row.changes else Verdict.UNCHANGED
        other = line.segment is not None and line.segment != row.segment
        return Planned(verdict, row.id, other)
    fault = None
    reference = customer_ref(line.id or 0)
    if row.erased_at is not None:
        fault = LineFault(
            "Email",
            f"this person was erased on {row.erased_at:%Y-%m-%d}",
            "create them by hand if they asked for that",
        )
    elif row.no_person:
        fault = LineFault(
            "Email",
            "is marked as not a person",
            "leave the line out, or take the mark away in the CRM",
        )
    elif row.taken_by is not None:
        fault = LineFault(
            "ID",
            f"{reference} has another e-mail here",
            "correct the e-mail in the CRM, or clear the ID to create a new customer",
        )
    elif row.used:
        fault = LineFault(
            "ID",
            f"{reference} was the id of a customer who was erased",
            "clear the ID to create a new customer",
        )
    return Planned(Verdict.NEW, None, other_segment=False, fault=fault)


async def reserve_ids(connection: AsyncConnection, highest: int) -> None:
    """Make new customers get ids greater than ``highest``; needs a transaction of its own."""
    if highest <= (await connection.execute(_LAST)).scalar_one():
        return
    await connection.execute(_LOCK_NUMBERS)
    if highest > (await connection.execute(_LAST)).scalar_one():
        await connection.execute(_SET_SEQUENCE, {"highest": highest})


async def write_customers(
    connection: AsyncConnection,
    lines: Sequence[tuple[CustomerLine, Planned]],
    actor: str,
    *,
    hold_segments: bool,
) -> None:
    """Do what was planned; the caller commits.

    With ``hold_segments``, an existing customer whose segment differs from the line's gets it by
    hand; this holds until their next order.
    """
    new = [line for line, plan in lines if not plan.fault and plan.verdict is Verdict.NEW]
    changed = [
        line._replace(id=plan.customer_id)
        for line, plan in lines
        if plan.verdict is Verdict.CHANGED
    ]
    held = {
        plan.customer_id: line.segment
        for line, plan in lines
        if hold_segments and plan.other_segment and plan.customer_id
    }
    # Every writer works in this order: create, lock, then count. While it waits for a customer, it
    # must not hold the counters, which everybody needs.
    ids: list[int] = []
    if new:
        created = await connection.execute(_CREATE, {**_packed(new), "actor": actor})
        ids = list(created.scalars())
    existing = sorted(plan.customer_id for _, plan in lines if plan.customer_id)
    if existing and (changed or held):
        await lock_customers(connection, existing)
    if ids:
        await reclassify(connection, ids, Cause.MANUAL)
        await connection.execute(_NOTE_CREATED, {"actor": actor, "ids": ids})
    if changed:
        await connection.execute(_CHANGE, {**_packed(changed), "actor": actor})
    if held:
        now = await read_clock(connection)
        for customer_id, segment in sorted(held.items()):
            await hold(connection, customer_id, Hold(segment), now)
            details = {"segment": [None, segment]}
            await note(
                connection, actor, "customer.updated", customer_id=customer_id, details=details
            )


def _packed(lines: Sequence[CustomerLine]) -> dict[str, str]:
    columns: dict[str, list[Any]] = {
        name: [getattr(line, name) for line in lines] for name in _COLUMNS if name != "place"
    }
    return pack({"place": list(range(len(lines))), **columns})
