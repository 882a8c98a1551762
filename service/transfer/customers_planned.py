"""Plan what each line of a file of customers will do, without writing.

A line creates a customer, changes the one whom its e-mail means, changes nothing, or is refused.
Without an e-mail, the shop's own number of them, their phone or our id says whom it means. So a dry
run says what an import does.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.customer_ids import customer_ref
from service.db.customers.erasure_keys import identifier_hash
from service.transfer.customer_columns import (
    CHANGED,
    LINES,
    OTHER_NOTES,
    PLAIN,
    WRITES_NOTES,
    FileFacts,
    for_each,
    outranks,
    packed,
    says_other,
    writes,
)
from service.transfer.customer_lines import CustomerLine
from service.transfer.lines import LineFault, Verdict
from service.transfer.own_fields_in import OTHER_FIELDS
from service.transfer.tags_in import OTHER_TAGS


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


# The history of an id stays after its customer was erased, so the id is not given to somebody else.
_PLAN = text(f"""
SELECT l.place, c.id, c.segment, c.total_orders, c.total_spent, e.erased_at, t.id AS taken_by,
       c.id IS NULL AND (i.identifier IS NOT NULL AND i.customer_id IS NULL
         OR x.identifier IS NOT NULL AND x.customer_id IS NULL
         OR p.identifier IS NOT NULL AND p.customer_id IS NULL) AS no_person,
       EXISTS (SELECT FROM segment_changes h WHERE h.customer_id = l.id) AS used,
       c.id IS NOT NULL AND (
         {" OR ".join(map(writes, CHANGED))}
         OR {WRITES_NOTES}
         OR {for_each("coalesce(l.{it} <> c.{it}, false)", PLAIN, " OR ")}
         OR coalesce(l.date_created < c.date_created, false)
         OR {OTHER_TAGS}
         OR {OTHER_FIELDS}
         OR l.external IS NOT NULL AND x.identifier IS NULL
         OR l.email_key IS NOT NULL AND i.identifier IS NULL) AS changes,
       c.id IS NOT NULL AND (
         {" OR ".join(f"{says_other(each)} AND NOT {outranks(each)}" for each in CHANGED)}
         OR {OTHER_NOTES} AND NOT {WRITES_NOTES}) AS keeps
FROM ({LINES}) l
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


async def plan_customers(
    connection: AsyncConnection, lines: Sequence[CustomerLine], facts: FileFacts
) -> list[Planned]:
    """Return what each line will do; write nothing. No two lines may have one e-mail or one id."""
    if not lines:
        return []
    rows = await connection.execute(_PLAN, {**packed(lines), **facts._asdict()})
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
