"""Calls, e-mails, meetings and notes: what staff did with a customer."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.accounts.audit import note

_COLUMNS = "id, kind, happened_at, author, text, date_created, date_updated"
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
) -> dict[str, Any] | None:
    """Add one; ``happened_at`` None is now. None when there is no such customer."""
    row = await connection.execute(
        _ADD,
        {
            "customer_id": customer_id,
            "kind": kind,
            "happened_at": happened_at,
            "author": actor,
            "text": words,
        },
    )
    return _one(row.mappings().one_or_none())


async def change(
    connection: AsyncConnection,
    actor: str,
    customer_id: int,
    interaction_id: int,
    changes: Mapping[str, Any],
) -> dict[str, Any] | None:
    """Change kind, text or moment; what is absent stays. None when there is no such one."""
    parameters = {"kind": None, "text": None, "happened_at": None, **changes}
    row = await connection.execute(
        _CHANGE, {**parameters, "id": interaction_id, "customer_id": customer_id}
    )
    changed = _one(row.mappings().one_or_none())
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
    *,
    author: str | None = None,
) -> bool:
    """Remove one, of this author if one is given; False when there is no such one."""
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


async def of_customer(connection: AsyncConnection, customer_id: int) -> list[dict[str, Any]]:
    """List a customer's, the latest first."""
    rows = await connection.execute(_LIST, {"customer_id": customer_id})
    return [_json(row) for row in rows.mappings()]


def _one(row: Mapping[Any, Any] | None) -> dict[str, Any] | None:
    return None if row is None else _json(row)


def _json(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        "id": str(row["id"]),
        "kind": row["kind"],
        "happenedAt": row["happened_at"],
        "author": row["author"],
        "text": row["text"],
        "dateCreated": row["date_created"],
        "dateUpdated": row["date_updated"],
    }
