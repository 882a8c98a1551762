"""Find where texts about others mention a person. An erasure leaves them for people to judge.

A note on another customer may say that somebody is her sister. Nobody but staff can tell what to do
about it. Only texts are searched that a trigram index covers, and only for an e-mail, a phone or a
full name as it is written in the profile, so a search costs little however large the tables are.
"""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.personal_ids import Identifiers

MOST = 100
"""Mentions that are listed, of each kind."""
_LEAST = 5
"""A shorter text is part of too many others."""

# The index has the name, e-mail and phone of a customer, too, so the notes are compared once more.
_FOLDED = "ARRAY(SELECT search_pattern(w) FROM unnest(CAST(:written AS text[])) AS u (w))"
_NOTES = f"""
WITH hits AS MATERIALIZED (
  SELECT customer_id FROM customer_search
  WHERE searched LIKE ANY({_FOLDED}) AND customer_id <> :id
)
SELECT 'notes' AS kind, c.id AS customer_id, NULL AS ref, NULL AS action, c.date_updated AS at
FROM hits CROSS JOIN LATERAL (
  SELECT id, notes, date_updated FROM customers WHERE id = hits.customer_id OFFSET 0
) c
WHERE search_folded(c.notes) LIKE ANY({_FOLDED})
LIMIT :most
"""
# The other indexes hold texts in lower case.
_LOWER = r"""ARRAY(
  SELECT '%' || replace(replace(replace(lower(w), '\', '\\'), '%', '\%'), '_', '\_') || '%'
  FROM unnest(CAST(:written AS text[])) AS u (w))"""
_INTERACTIONS = f"""
SELECT 'interaction', customer_id, CAST(id AS text), NULL, happened_at FROM interactions
WHERE lower(text) LIKE ANY({_LOWER}) AND customer_id <> :id
LIMIT :most
"""
_AUDIT = f"""
SELECT 'audit', customer_id, CAST(id AS text), action, at FROM audit
WHERE lower(CAST(details AS text)) LIKE ANY({_LOWER}) AND details <> '{{}}'
  AND coalesce(customer_id <> ALL(CAST(:numbers AS bigint[])), true)
LIMIT :most
"""
_OWN_FIELDS = f"""
SELECT 'field', f.customer_id, NULL, NULL, c.date_updated
FROM customer_fields f JOIN customers c ON c.id = f.customer_id
WHERE lower(CAST(f.field_values AS text)) LIKE ANY({_LOWER}) AND f.customer_id <> :id
LIMIT :most
"""
_MENTIONS = text(
    f"({_NOTES}) UNION ALL ({_OWN_FIELDS}) UNION ALL ({_INTERACTIONS}) UNION ALL ({_AUDIT})"
    " ORDER BY at DESC"
)


class Mention(NamedTuple):
    """A text that mentions the person, and where it stands."""

    kind: str
    """``notes``, ``field``, ``interaction`` or ``audit``."""
    customer_id: int | None
    """The other customer, whom the text is about. None if it is about nobody."""
    ref: str | None
    """The id of the interaction or of the audit entry."""
    action: str | None
    """The action, for an audit entry."""
    at: datetime


class Mentions(NamedTuple):
    """The texts that mention a person, the latest first."""

    items: list[Mention]
    complete: bool
    """False if there are more than `MOST` of a kind."""


async def of_others(
    connection: AsyncConnection, customer_id: int, identifiers: Identifiers
) -> Mentions:
    """Return the texts about others that mention a person by e-mail, phone or full name."""
    names = (*identifiers.emails, *identifiers.phones, *identifiers.names)
    written = [each for each in names if len(each) >= _LEAST]
    if not written:
        return Mentions([], complete=True)
    rows = await connection.execute(
        _MENTIONS,
        {
            "id": customer_id,
            "numbers": identifiers.customers,
            "written": written,
            "most": MOST + 1,
        },
    )
    items = [Mention(*row) for row in rows]
    kinds = [item.kind for item in items]
    return Mentions(items, complete=all(kinds.count(kind) <= MOST for kind in set(kinds)))
