"""The values that customers have in own fields. The caller commits.

They stand beside customers, so no event reads or rewrites them. Whoever writes them has locked the
customer, and before that shares the lock of the fields: so no value is left of a field that is
deleted meanwhile.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.json_values import dumps
from service.core.own_fields import OwnField, Value, still_valid, unknown_field, value_of
from service.db.customers.own_fields.catalogue import list_fields
from service.db.locks import AdvisoryLock, share_lock

FIELDS_OF_CUSTOMER = """coalesce((SELECT f.field_values FROM customer_fields f
  WHERE f.customer_id = c.id), '{}')"""
"""SQL for the values of ``customers c``, as a JSON object."""

_READ = text("SELECT customer_id, field_values FROM customer_fields WHERE customer_id = ANY(:ids)")
_WRITE = text("""
INSERT INTO customer_fields (customer_id, field_values) VALUES (:id, CAST(:field_values AS jsonb))
ON CONFLICT (customer_id) DO UPDATE SET field_values = excluded.field_values
""")
_FORGET = text("DELETE FROM customer_fields WHERE customer_id = :id")
_JOIN = text("""
INSERT INTO customer_fields (customer_id, field_values)
SELECT :low, field_values FROM customer_fields WHERE customer_id = :high
ON CONFLICT (customer_id) DO UPDATE
SET field_values = excluded.field_values || customer_fields.field_values
""")


class InvalidValueError(Exception):
    """A value cannot be stored; ``args`` are the key and what is wrong."""


def checked(fields: Sequence[OwnField], given: Mapping[str, Any]) -> dict[str, Value | None]:
    """Return JSON values as they are stored; None clears. Raises InvalidValueError."""
    by_key = {field.key: field for field in fields}
    values = dict[str, Value | None]()
    for key, value in given.items():
        if key not in by_key:
            raise InvalidValueError(key, unknown_field(fields))
        try:
            values[key] = None if value in {None, ""} else value_of(by_key[key], value)
        except ValueError as error:
            raise InvalidValueError(key, str(error)) from None
    return values


async def hold_fields(connection: AsyncConnection) -> None:
    """Keep the fields as they are until the transaction ends. Call it before customers are locked.

    Who waits for a change of a field then keeps no event waiting.
    """
    await share_lock(connection, AdvisoryLock.OWN_FIELDS)


async def values_of(
    connection: AsyncConnection, ids: Sequence[int]
) -> dict[int, Mapping[str, Value]]:
    """Return the values of customers by their numbers; those without any are left out."""
    rows = await connection.execute(_READ, {"ids": ids})
    return {row.customer_id: row.field_values for row in rows}


async def write_values(
    connection: AsyncConnection, customer_id: int, values: Mapping[str, Value]
) -> None:
    """Replace all values of a customer who is locked."""
    if not values:
        await forget_fields(connection, customer_id)
        return
    parameters = {"id": customer_id, "field_values": dumps(dict(values)).decode()}
    await connection.execute(_WRITE, parameters)


async def change_values(
    connection: AsyncConnection,
    customer_id: int,
    before: Mapping[str, Value],
    given: Mapping[str, Any],
) -> dict[str, list[Value | None]]:
    """Change values of a customer who is locked and has ``before``; return what changed.

    That is the old and the new value by key. `hold_fields` was called. Raises InvalidValueError.
    """
    wanted = checked(await list_fields(connection), given)
    changes = {
        key: [before.get(key), value] for key, value in wanted.items() if before.get(key) != value
    }
    if changes:
        after = {**before, **wanted}
        filled = {key: value for key, value in after.items() if value is not None}
        await write_values(connection, customer_id, filled)
    return changes


async def join_fields(connection: AsyncConnection, low: int, high: int) -> None:
    """Move the values of a merged customer to the one who stays, whose own values win."""
    await connection.execute(_JOIN, {"low": low, "high": high})
    await forget_fields(connection, high)


async def give_back(
    connection: AsyncConnection,
    old: int,
    new: int,
    gone: Mapping[str, Value],
    stayed: Mapping[str, Value],
) -> None:
    """Undo `join_fields`: ``gone`` and ``stayed`` are the values of both before it.

    Values that were changed since stay, and those of fields that are no more are left out.
    """
    theirs = still_valid(await list_fields(connection), gone)
    await write_values(connection, new, theirs)
    now = (await values_of(connection, [old])).get(old, {})
    kept = {key: value for key, value in now.items() if key in stayed or gone.get(key) != value}
    if kept != now:
        await write_values(connection, old, kept)


async def forget_fields(connection: AsyncConnection, customer_id: int) -> None:
    """Remove all values of a customer."""
    await connection.execute(_FORGET, {"id": customer_id})
