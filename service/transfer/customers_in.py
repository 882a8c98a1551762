"""Write the customers of a file, as facts of the file's date.

A line creates a customer, changes the one whom its e-mail means, changes nothing, or is refused.
Without an e-mail, the shop's own number of them, their phone or our id says whom it means. It is
planned first, without writing, so a dry run says what an import does. Segments and metrics follow
from the orders and never come from a file. An empty cell changes nothing, unless empty cells are to
clear values.

A value has the file's date, like one of an event: what a person typed outranks it, and so does
what an event told later.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.customer_ids import customer_ref
from service.core.identifiers import email_identifier
from service.core.order_event import EMAIL_REGISTER, REGISTERS
from service.core.segment_event import Cause
from service.core.tags import tag_key
from service.db import registers
from service.db.accounts.audit import note
from service.db.columns import pack, unpack
from service.db.customers.erasure_keys import identifier_hash
from service.db.customers.identity.pairs import put_together
from service.db.locks import lock_customers, read_clock
from service.db.search_text import folded, unfolded
from service.db.segments.assign import SLOT, THIS_SLOT, Hold, hold, reclassify
from service.db.statistics.daily import daily_totals_sql
from service.transfer.customer_lines import CustomerLine
from service.transfer.lines import LineFault, Verdict
from service.transfer.own_fields_in import OTHER_FIELDS, hold_own_fields, write_own_fields
from service.transfer.tags_in import OTHER_TAGS, hold_tags, write_tags


class FileFacts(NamedTuple):
    """What is the same for all lines of a file."""

    as_of: datetime
    """When its values were true."""
    overwrites_notes: bool
    """Its notes are ours, edited. Other notes only go where there are none."""


class Planned(NamedTuple):
    """What a line will do. A line with a fault does nothing."""

    verdict: Verdict
    customer_id: int | None
    other_segment: bool = False
    """The customer is, or will be, in another segment than the line says."""
    other_figures: bool = False
    """The line has other totals than the customer."""
    kept: bool = False
    """A value stays, because somebody typed it, or because it is newer than the file."""
    fault: LineFault | None = None


_EVENT = "import"
"""The event id in the key of a value."""
_REGISTERS = tuple(register for register in REGISTERS if register in CustomerLine._fields)
_CHANGED = tuple(register for register in _REGISTERS if register != EMAIL_REGISTER)
"""A file may have an e-mail that a customer had formerly. That does not make it their own again."""
_PLAIN = ("email_opt_in", "sms_opt_in")
_COLUMNS = {
    "place": "integer",
    "id": "bigint",
    "email_key": "text",
    "external": "text",
    "phone_identifier": "text",
    "identifiers": "jsonb",
    **{register: registers.KINDS[register] for register in _REGISTERS},
    "notes": "text",
    "email_opt_in": "boolean",
    "sms_opt_in": "boolean",
    "date_created": "timestamptz",
    "segment": "text",
    "held": "boolean",
    "pinned": "boolean",
    "pinned_until": "timestamptz",
    "by_hand": "text",
    "cleared": "text",
    "tags": "jsonb",
    "fields": "jsonb",
    "cleared_fields": "jsonb",
}
_LINES = unpack(_COLUMNS)
_AS_OF = "CAST(:as_of AS timestamptz)"


def _each(template: str, names: Sequence[str] = _CHANGED, between: str = ", ") -> str:
    return between.join(template.format(it=name) for name in names)


def _listed(register: str, column: str) -> str:
    return f"coalesce(l.{column} LIKE '%,{register},%', false)"


def _says_other(register: str) -> str:
    """Return the condition that a line has another value than the customer, or clears it."""
    return (
        f"(coalesce(l.{register} IS DISTINCT FROM c.{register} AND l.{register} IS NOT NULL, false)"
        f" OR {_listed(register, 'cleared')} AND c.{register} IS NOT NULL)"
    )


def _outranks(register: str) -> str:
    """Return the condition that the file's value is newer than that of the customer."""
    return f"coalesce(({_AS_OF}, '{_EVENT}') >= (c.{register}_at, c.{register}_event), true)"


def _writes(register: str) -> str:
    return f"({_says_other(register)} AND {_outranks(register)})"


_OTHER_NOTES = (
    f"(coalesce(l.notes <> c.notes, false) OR {_listed('notes', 'cleared')} AND c.notes <> '')"
)
_WRITES_NOTES = f"({_OTHER_NOTES} AND (CAST(:overwrites_notes AS boolean) OR c.notes = ''))"

# The history of an id stays after its customer was erased, so the id is not given to somebody else.
_PLAN = text(f"""
SELECT l.place, c.id, c.segment, c.total_orders, c.total_spent, e.erased_at, t.id AS taken_by,
       c.id IS NULL AND (i.identifier IS NOT NULL AND i.customer_id IS NULL
         OR x.identifier IS NOT NULL AND x.customer_id IS NULL
         OR p.identifier IS NOT NULL AND p.customer_id IS NULL) AS no_person,
       EXISTS (SELECT FROM segment_changes h WHERE h.customer_id = l.id) AS used,
       c.id IS NOT NULL AND (
         {_each("{it}", [_writes(register) for register in _CHANGED], " OR ")}
         OR {_WRITES_NOTES}
         OR {_each("coalesce(l.{it} <> c.{it}, false)", _PLAIN, " OR ")}
         OR coalesce(l.date_created < c.date_created, false)
         OR {OTHER_TAGS}
         OR {OTHER_FIELDS}
         OR l.external IS NOT NULL AND x.identifier IS NULL
         OR l.email_key IS NOT NULL AND i.identifier IS NULL) AS changes,
       c.id IS NOT NULL AND (
         {
    _each(
        "{it}",
        [f"{_says_other(register)} AND NOT {_outranks(register)}" for register in _CHANGED],
        " OR ",
    )
}
         OR {_OTHER_NOTES} AND NOT {_WRITES_NOTES}) AS keeps
FROM ({_LINES}) l
LEFT JOIN identifiers i ON i.identifier = 'email:' || l.email_key
LEFT JOIN identifiers x ON x.identifier = l.external
LEFT JOIN identifiers p ON p.identifier = l.phone_identifier
LEFT JOIN customers c ON c.id = coalesce(
  i.customer_id, x.customer_id, p.customer_id, CASE WHEN l.email_key IS NULL THEN l.id END)
LEFT JOIN customers t ON t.id = l.id
LEFT JOIN LATERAL (
  SELECT max(erased_at) AS erased_at FROM erased
  WHERE email_hash IN (
    CASE WHEN i.customer_id IS NULL THEN {identifier_hash("'email:' || l.email_key")} END,
    CASE WHEN x.customer_id IS NULL THEN {identifier_hash("l.external")} END,
    CASE WHEN p.customer_id IS NULL THEN {identifier_hash("l.phone_identifier")} END)
) e ON true
""")
# A transaction that takes a number also inserts a customer. So no number is taken while the table
# is locked. Only the owner could lock the sequence itself.
_LOCK_NUMBERS = text("LOCK TABLE customers IN SHARE ROW EXCLUSIVE MODE")
# A sequence that was never used will give its `last_value` itself.
_LAST = text("SELECT last_value - CAST(NOT is_called AS integer) FROM customers_id_seq")
_SET_SEQUENCE = text("SELECT setval('customers_id_seq', :highest)")


def _new_values(register: str) -> str:
    """Return the SELECT list of a register of a new customer: value, time, event id."""
    at = f"CASE WHEN {_listed(register, 'by_hand')} THEN 'infinity' ELSE {_AS_OF} END"
    event = f"CASE WHEN {_listed(register, 'by_hand')} THEN '' ELSE '{_EVENT}' END"
    return (
        f"{register}, CASE WHEN {register} IS NOT NULL THEN {at} END,"
        f" CASE WHEN {register} IS NOT NULL THEN {event} END"
    )


# If somebody takes an e-mail or a number meanwhile, this fails, and the lines are planned again.
_CREATE = text(f"""
WITH l AS MATERIALIZED (
  SELECT coalesce(id, nextval('customers_id_seq')) AS number, lines.* FROM ({_LINES}) lines
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
  {", ".join(", ".join(registers.columns_of(it)) for it in _REGISTERS)}, notes,
  email_opt_in, sms_opt_in, date_created, segment, segment_manual, segment_pinned,
  segment_pinned_until, segment_held_since)
SELECT number, email_key,
  {", ".join(map(_new_values, _REGISTERS))},
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
_EDITED = (*_CHANGED, EMAIL_REGISTER, "notes", *_PLAIN)


def _assigned(register: str) -> str:
    return (
        f"{register} = CASE WHEN {_writes(register)} THEN l.{register} ELSE c.{register} END,"
        f" {register}_at = CASE WHEN {_writes(register)} THEN {_AS_OF} ELSE c.{register}_at END,"
        f" {register}_event = CASE WHEN {_writes(register)} THEN '{_EVENT}'"
        f" ELSE c.{register}_event END"
    )


# Somebody whom only a phone or a shop's number named gets their first e-mail.
_GETS_EMAIL = """(c.email_key IS NULL AND EXISTS (
      SELECT FROM identifiers WHERE identifier = 'email:' || l.email_key AND customer_id = c.id))"""
_FIRST_EMAIL = (
    f"email_key = CASE WHEN {_GETS_EMAIL} THEN l.email_key ELSE c.email_key END,"
    f" email = CASE WHEN {_GETS_EMAIL} THEN l.email ELSE c.email END,"
    f" email_at = CASE WHEN {_GETS_EMAIL} THEN {_AS_OF} ELSE c.email_at END,"
    f" email_event = CASE WHEN {_GETS_EMAIL} THEN '{_EVENT}' ELSE c.email_event END"
)
_CHANGE = text(f"""
WITH l AS ({_LINES}),
changed AS (
  UPDATE customers c SET
    {", ".join(map(_assigned, _CHANGED))},
    {_FIRST_EMAIL},
    notes = CASE WHEN {_WRITES_NOTES} THEN coalesce(l.notes, '') ELSE c.notes END,
    {_each("{it} = coalesce(l.{it}, c.{it})", _PLAIN)},
    date_created = LEAST(c.date_created, l.date_created),
    date_updated = clock_timestamp()
  FROM l WHERE c.id = l.id
  RETURNING c.id, {unfolded("new")} AS unfolded,
    {_each("old.{it} AS old_{it}, new.{it} AS new_{it}", _EDITED)},
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
  'imported', true, {_each(_EDIT, _EDITED)},
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
    connection: AsyncConnection, lines: Sequence[CustomerLine], facts: FileFacts
) -> list[Planned]:
    """Return what each line will do; write nothing. No two lines may have one e-mail or one id."""
    if not lines:
        return []
    rows = await connection.execute(_PLAN, {**_packed(lines), **facts._asdict()})
    by_place = {row.place: row for row in rows}
    return [_planned(line, by_place[place]) for place, line in enumerate(lines)]


def _planned(line: CustomerLine, row: Any) -> Planned:
    orders, spent = line.figures
    other_figures = (orders is not None and orders != (row.total_orders or 0)) or (
        spent is not None and spent != (row.total_spent or 0)
    )
    if row.id is not None and row.erased_at is None:
        verdict = Verdict.CHANGED if row.changes else Verdict.UNCHANGED
        other = line.segment is not None and line.segment != row.segment
        return Planned(verdict, row.id, other, other_figures, row.keeps)
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
    other = line.segment not in {None, "new"} and line.held is None
    return Planned(Verdict.NEW, None, other, other_figures, fault=fault)


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
        created = list(await connection.execute(_CREATE, {**_packed(new), **parameters}))
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
        await connection.execute(_CHANGE, {**_packed(changed), **parameters})
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
    packed = pack(
        {"identifier": [each for _, each in named], "customer_id": [id_ for id_, _ in named]}
    )
    await connection.execute(_ADD_IDENTIFIERS, {**packed, "actor": actor})
    pairs = await connection.execute(_PUT_TOGETHER, packed)
    await put_together(connection, [(row.one, row.other) for row in pairs])


def _packed(lines: Sequence[CustomerLine]) -> dict[str, str | None]:
    made = {
        "place": range(len(lines)),
        "held": (line.held is not None and line.segment is not None for line in lines),
        "pinned": (line.held is not None and line.held.pinned for line in lines),
        "identifiers": (list(line.identifiers) for line in lines),
        "pinned_until": (line.held and line.held.until for line in lines),
        "by_hand": (_as_list(line.by_hand) for line in lines),
        "cleared": (_as_list(line.cleared) for line in lines),
        "tags": ([tag_key(name) for name in line.tags] for line in lines),
        "fields": (
            {key: value for key, value in line.fields.items() if value is not None}
            for line in lines
        ),
        "cleared_fields": (
            [key for key, value in line.fields.items() if value is None] for line in lines
        ),
    }
    columns: dict[str, list[Any]] = {
        name: list(made[name]) if name in made else [getattr(line, name) for line in lines]
        for name in _COLUMNS
    }
    return pack(columns)


def _as_list(names: frozenset[str]) -> str:
    return f",{','.join(sorted(names))}," if names else ""
