"""Calls, e-mails, meetings and notes that staff record about a customer. The caller commits."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import CursorResult, TextClause, text
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


class KeptInteraction(NamedTuple):
    """An interaction, and whether it can be taken back."""

    interaction: InteractionRow
    removed_at: datetime | None
    """When its author removed it. For `TAKEN_BACK_FOR`, they can take that back."""


TAKEN_BACK_FOR = timedelta(hours=1)
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
WHERE id = :id AND customer_id = :customer_id AND removed_at IS NULL RETURNING {_COLUMNS}
""")
_REMOVE = text("DELETE FROM interactions WHERE id = :id AND customer_id = :customer_id")
_SET_ASIDE = text("""
UPDATE interactions SET removed_at = clock_timestamp()
WHERE id = :id AND customer_id = :customer_id AND author = :author AND removed_at IS NULL
""")
_TAKE_BACK = text("""
UPDATE interactions SET removed_at = NULL
WHERE id = :id AND customer_id = :customer_id AND author = :author AND removed_at IS NOT NULL
""")
_FORGET = text("""
DELETE FROM interactions WHERE removed_at < clock_timestamp() - CAST(:age AS interval)
""")
_LIST = text(f"""
SELECT {_COLUMNS}, removed_at FROM interactions WHERE customer_id = :customer_id
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
    connection: AsyncConnection, actor: str, customer_id: int, interaction_id: int
) -> bool:
    """Remove an interaction for good. False if the customer has no such interaction."""
    parameters = {"id": interaction_id, "customer_id": customer_id}
    return await _noted(connection, _REMOVE, parameters, actor, "interaction.removed")


async def set_aside(
    connection: AsyncConnection, author: str, customer_id: int, interaction_id: int
) -> bool:
    """Remove an interaction so that its author can take that back for an hour.

    False if the author has no such interaction with the customer.
    """
    parameters = {"id": interaction_id, "customer_id": customer_id, "author": author}
    return await _noted(connection, _SET_ASIDE, parameters, author, "interaction.removed")


async def take_back(
    connection: AsyncConnection, author: str, customer_id: int, interaction_id: int
) -> bool:
    """Undo `set_aside`. False if it was removed for good meanwhile."""
    parameters = {"id": interaction_id, "customer_id": customer_id, "author": author}
    return await _noted(connection, _TAKE_BACK, parameters, author, "interaction.restored")


async def forget_removed(connection: AsyncConnection) -> int | None:
    """Delete what was removed too long ago to be taken back; the caller commits.

    Return how many interactions; None if none.
    """
    return (await connection.execute(_FORGET, {"age": TAKEN_BACK_FOR})).rowcount or None


async def of_customer(connection: AsyncConnection, customer_id: int) -> list[InteractionRow]:
    """Return all interactions with a customer, the latest first."""
    kept = await with_removed(connection, customer_id)
    return [each.interaction for each in kept if each.removed_at is None]


async def with_removed(connection: AsyncConnection, customer_id: int) -> list[KeptInteraction]:
    """Return the same, and those that can be taken back."""
    rows = await connection.execute(_LIST, {"customer_id": customer_id})
    return [KeptInteraction(InteractionRow(*row[:-1]), row.removed_at) for row in rows]


async def _noted(
    connection: AsyncConnection,
    statement: TextClause,
    parameters: Mapping[str, Any],
    actor: str,
    action: str,
) -> bool:
    if not (await connection.execute(statement, parameters)).rowcount:
        return False
    await note(
        connection,
        actor,
        action,
        customer_id=parameters["customer_id"],
        details={"interaction": parameters["id"]},
    )
    return True


def _one(result: CursorResult[*tuple[Any, ...]]) -> InteractionRow | None:
    row = result.one_or_none()
    return None if row is None else InteractionRow(*row)
