"""The audit log: who did what and when, written in the transaction that does it."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.json_values import dumps

_NOTE = text(
    "INSERT INTO audit (actor, action, customer_id, details)"
    " VALUES (:actor, :action, :customer_id, CAST(:details AS jsonb))"
)


async def note(
    connection: AsyncConnection,
    actor: str,
    action: str,
    *,
    customer_id: int | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Record that ``actor`` did ``action``. Details of a change are {field: [old, new]}."""
    await connection.execute(
        _NOTE,
        {
            "actor": actor,
            "action": action,
            "customer_id": customer_id,
            "details": dumps(details or {}).decode(),
        },
    )
