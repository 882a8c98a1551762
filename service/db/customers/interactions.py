"""Calls, e-mails, meetings and notes that staff record about a customer. The caller commits."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import CursorResult, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.accounts.audit import note


class InteractionRow(NamedTuple):
    """An interaction as stored."""

    id: int
    kind: str
    happened_at: datetime
    author: str
    text: str
    date_created: datetime
    date_updated: datetime


_COLUMNS = ", ".join(InteractionRow._fields)
_ADD = text(f"""
INSERT INTO interactions (customer_id, kind, happened_at, author, text)
SELECT id, :kind, coalesce(CAST(:happened_at AS timestamptz), clock_timestamp()), :author, :text
FROM customers WHERE id = :customer_id FOR KEY SHARE
RETURNING {_COLUMNS}
""")
_CHANGE = text(f"""
UPDATE interactions SET kind = coalesce(:kind, kind), text = coalesce(:text, text),
  happened_at = coalesce(CAST(:happened_at AS timestamptz), happened_at),
  date_updated = clock_timestamp()
WHERE id = :id AND customer_id = :customer_id RETURNING {_COLUMNS}
""")
_REMOVE = text("""
DELETE FROM interactions WHERE id = :id AND customer_id = :customer_id
  AND (CAST(:author AS text) IS NULL OR author = :author)
""")
_LIST = text(f"""
SELECT {_COLUMNS} FROM interactions WHERE customer_id = :customer_id
ORDER BY happened_at DESC, id DESC
""")


async def add(
    connection: AsyncConnection,
    actor: str,
    customer_id: int,
    kind: str,
    words: str,
    happened_at: datetime | None,
) -> InteractionRow | None:
    """Add an interaction and return it. None if there is no such customer.

    ``happened_at`` None means now.
    """
    added = await connection.execute(
        _ADD,
        {
            "customer_id": customer_id,
            "kind": kind,
            "happened_at": happened_at,
            "author": actor,
            "text": words,
        },
    )
    return _one(added)


async def change(
    connection: AsyncConnection,
    actor: str,
    customer_id: int,
    interaction_id: int,
    changes: Mapping[str, Any],
) -> InteractionRow | None:
    """Change the kind, the text or the time of an interaction and return it.

    Fields that ``changes`` does not name stay. None if the customer has no such interaction.
    """
    parameters = {"kind": None, "text": None, "happened_at": None, **changes}
    result = await connection.execute(
        _CHANGE, {**parameters, "id": interaction_id, "customer_id": customer_id}
    )
    changed = _one(result)
    if changed:
        await note(
            connection,
            actor,
            "interaction.updated",
            customer_id=customer_id,
            details={"interaction": interaction_id},
        )
    return changed


async def remove(
    connection: AsyncConnection,
    actor: str,
    customer_id: int,
    interaction_id: int,
    author: str | None = None,
) -> bool:
    """Remove an interaction. False if the customer has no such interaction.

    With ``author``, only an interaction of that author is removed.
    """
    result = await connection.execute(
        _REMOVE, {"id": interaction_id, "customer_id": customer_id, "author": author}
    )
    if not result.rowcount:
        return False
    await note(
        connection,
        actor,
        "interaction.removed",
        customer_id=customer_id,
        details={"interaction": interaction_id},
    )
    return True


async def of_customer(connection: AsyncConnection, customer_id: int) -> list[InteractionRow]:
    """Return all interactions with a customer, the latest first."""
    rows = await connection.execute(_LIST, {"customer_id": customer_id})
    return [InteractionRow(*row) for row in rows]


def _one(result: CursorResult[*tuple[Any, ...]]) -> InteractionRow | None:
    row = result.one_or_none()
    return None if row is None else InteractionRow(*row)
