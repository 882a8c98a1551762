"""Write the customers of a file, as `customers_planned` says.

Segments and metrics follow from the orders and never come from a file. An empty cell changes
nothing, unless empty cells are to clear values.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.identifiers import email_identifier
from service.core.order_event import EMAIL_REGISTER
from service.core.segment_event import Cause
from service.db import registers
from service.db.accounts.audit import note
from service.db.columns import pack, unpack
from service.db.customers.identity.pairs import put_together
from service.db.locks import lock_customers, read_clock
from service.db.search_text import folded, unfolded
from service.db.segments.assign import SLOT, THIS_SLOT, Hold, hold, reclassify
from service.db.statistics.daily import daily_totals_sql
from service.transfer.customer_columns import (
    AS_OF,
    CHANGED,
    EVENT,
    FILE_REGISTERS,
    LINES,
    PLAIN,
    WRITES_NOTES,
    FileFacts,
    for_each,
    listed,
    packed,
    writes,
)
from service.transfer.customer_lines import CustomerLine
from service.transfer.customers_planned import Planned
from service.transfer.lines import Verdict
from service.transfer.own_fields_in import hold_own_fields, write_own_fields
from service.transfer.tags_in import hold_tags, write_tags

# A transaction that takes a number also inserts a customer. So no number is taken while the table
# is locked. Only the owner could lock the sequence itself.
_LOCK_NUMBERS = text("LOCK TABLE customers IN SHARE ROW EXCLUSIVE MODE")
# A sequence that was never used will give its `last_value` itself.
_LAST = text("SELECT last_value - CAST(NOT is_called AS integer) FROM customers_id_seq")
_SET_SEQUENCE = text("SELECT setval('customers_id_seq', :highest)")


def _new_values(register: str) -> str:
    """Return the SELECT list of a register of a new customer: value, time, event id."""
    at = f"CASE WHEN {listed(register, 'by_hand')} THEN 'infinity' ELSE {AS_OF} END"
    event = f"CASE WHEN {listed(register, 'by_hand')} THEN '' ELSE '{EVENT}' END"
    return (
        f"{register}, CASE WHEN {register} IS NOT NULL THEN {at} END,"
        f" CASE WHEN {register} IS NOT NULL THEN {event} END"
    )


# If somebody takes an e-mail or a number meanwhile, this fails, and the lines are planned again.
_CREATE = text(f"""
WITH l AS MATERIALIZED (
  SELECT coalesce(id, nextval('customers_id_seq')) AS number, lines.* FROM ({LINES}) lines
),
known AS (
  INSERT INTO identifiers (identifier, customer_id, given_by)
  SELECT identifier, number, :actor FROM l CROSS JOIN LATERAL (
    VALUES ('email:' || email_key), (external), (phone_identifier)
  ) i (identifier)
  WHERE identifier IS NOT NULL
  ORDER BY identifier COLLATE "C"
),
others AS (
  INSERT INTO identifiers (identifier, customer_id, given_by)
  SELECT identifier, number, :actor
  FROM l CROSS JOIN LATERAL jsonb_array_elements_text(identifiers) i (identifier)
  WHERE identifier NOT IN (coalesce('email:' || email_key, ''), coalesce(external, ''),
    coalesce(phone_identifier, ''))
  ORDER BY identifier COLLATE "C"
  ON CONFLICT DO NOTHING
)
INSERT INTO customers (id, email_key,
  {", ".join(", ".join(registers.columns_of(it)) for it in FILE_REGISTERS)}, notes,
  email_opt_in, sms_opt_in, date_created, segment, segment_manual, segment_pinned,
  segment_pinned_until, segment_held_since)
SELECT number, email_key,
  {", ".join(map(_new_values, FILE_REGISTERS))},
  coalesce(notes, ''), coalesce(email_opt_in, false), coalesce(sms_opt_in, false),
  coalesce(date_created, clock_timestamp()),
  CASE WHEN held THEN segment ELSE 'new' END, held, held AND pinned,
  CASE WHEN held THEN pinned_until END, CASE WHEN held THEN clock_timestamp() END
FROM l ORDER BY number
RETURNING id, segment_manual
""")
# An identifier that means somebody else is not taken from them.
_ADD_IDENTIFIERS = text(f"""
INSERT INTO identifiers (identifier, customer_id, given_by)
SELECT identifier, customer_id, :actor
FROM ({unpack({"identifier": "text", "customer_id": "bigint"})}) l
ORDER BY identifier COLLATE "C"
ON CONFLICT DO NOTHING
""")
_PUT_TOGETHER = text(f"""
SELECT DISTINCT l.customer_id AS one, i.customer_id AS other
FROM ({unpack({"identifier": "text", "customer_id": "bigint"})}) l
JOIN identifiers i USING (identifier)
WHERE i.customer_id <> l.customer_id
""")
_EDIT = (
    "'{it}', CASE WHEN old_{it} IS DISTINCT FROM new_{it}"
    " THEN jsonb_build_array(old_{it}, new_{it}) END"
)
_EDITED = (*CHANGED, EMAIL_REGISTER, "notes", *PLAIN)


def _assigned(register: str) -> str:
    return (
        f"{register} = CASE WHEN {writes(register)} THEN l.{register} ELSE c.{register} END,"
        f" {register}_at = CASE WHEN {writes(register)} THEN {AS_OF} ELSE c.{register}_at END,"
        f" {register}_event = CASE WHEN {writes(register)} THEN '{EVENT}'"
        f" ELSE c.{register}_event END"
    )


# Somebody whom only a phone or a shop's number named gets their first e-mail.
_GETS_EMAIL = """(c.email_key IS NULL AND EXISTS (
      SELECT FROM identifiers WHERE identifier = 'email:' || l.email_key AND customer_id = c.id))"""
_FIRST_EMAIL = (
    f"email_key = CASE WHEN {_GETS_EMAIL} THEN l.email_key ELSE c.email_key END,"
    f" email = CASE WHEN {_GETS_EMAIL} THEN l.email ELSE c.email END,"
    f" email_at = CASE WHEN {_GETS_EMAIL} THEN {AS_OF} ELSE c.email_at END,"
    f" email_event = CASE WHEN {_GETS_EMAIL} THEN '{EVENT}' ELSE c.email_event END"
)
_CHANGE = text(f"""
WITH l AS ({LINES}),
changed AS (
  UPDATE customers c SET
    {", ".join(map(_assigned, CHANGED))},
    {_FIRST_EMAIL},
    notes = CASE WHEN {WRITES_NOTES} THEN coalesce(l.notes, '') ELSE c.notes END,
    {for_each("{it} = coalesce(l.{it}, c.{it})", PLAIN)},
    date_created = LEAST(c.date_created, l.date_created),
    date_updated = clock_timestamp()
  FROM l WHERE c.id = l.id
  RETURNING c.id, {unfolded("new")} AS unfolded,
    {for_each("old.{it} AS old_{it}, new.{it} AS new_{it}", _EDITED)},
    old.date_created AS old_created, new.date_created AS new_created
),
found AS (
  INSERT INTO customer_search (customer_id, searched)
  SELECT id, {folded("unfolded")} FROM changed ORDER BY id
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
  'imported', true, {for_each(_EDIT, _EDITED)},
  'dateCreated', CASE WHEN old_created <> new_created
                      THEN jsonb_build_array(old_created, new_created) END))
FROM changed ORDER BY id
""")
_NOTE_CREATED = text("""
INSERT INTO audit (actor, action, customer_id, details)
SELECT CAST(:actor AS text), 'customer.created', id, '{"imported": true}'
FROM unnest(CAST(:ids AS bigint[])) AS u(id)
""")


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
    facts: FileFacts,
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
    parameters = {**facts._asdict(), "actor": actor}
    await hold_own_fields(connection, [*new, *changed])
    # Every writer works in this order: create, lock, then count. While it waits for a customer, it
    # must not hold the counters, which everybody needs.
    created: list[Any] = []
    if new:
        created = list(await connection.execute(_CREATE, {**packed(new), **parameters}))
    named = [
        (line.id, each)
        for line in changed
        if line.id
        for each in (
            *line.identifiers,
            line.external,
            line.email_key and email_identifier(line.email_key),
        )
        if each
    ]
    if named:
        await _give(connection, named, actor)
    existing = sorted(plan.customer_id for _, plan in lines if plan.customer_id)
    if existing and (changed or held):
        await lock_customers(connection, existing)
    await hold_tags(connection, [*new, *changed])
    if created:
        # A hold that the file restores is a person's decision; the rest follows from the rules.
        for by_hand, cause in ((False, Cause.IMPORT), (True, Cause.MANUAL)):
            ids = [row.id for row in created if row.segment_manual is by_hand]
            if ids:
                await reclassify(connection, ids, cause)
        ids = [row.id for row in created]
        await connection.execute(_NOTE_CREATED, {"actor": actor, "ids": ids})
    if changed:
        await connection.execute(_CHANGE, {**packed(changed), **parameters})
    await write_tags(connection, [*new, *changed], actor)
    await write_own_fields(connection, new, changed, actor)
    if held:
        now = await read_clock(connection)
        for customer_id, segment in sorted(held.items()):
            await hold(connection, customer_id, Hold(segment), now)
            details = {"segment": [None, segment]}
            await note(
                connection, actor, "customer.updated", customer_id=customer_id, details=details
            )


async def _give(connection: AsyncConnection, named: Sequence[tuple[int, str]], actor: str) -> None:
    """Add identifiers to customers. If another customer has one, the two are due to be merged."""
    given = pack(
        {"identifier": [each for _, each in named], "customer_id": [id_ for id_, _ in named]}
    )
    await connection.execute(_ADD_IDENTIFIERS, {**given, "actor": actor})
    pairs = await connection.execute(_PUT_TOGETHER, given)
    await put_together(connection, [(row.one, row.other) for row in pairs])
