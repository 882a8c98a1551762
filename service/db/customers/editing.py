"""What people do to a customer: create, edit, hold a segment, erase. The caller commits.

What a person typed outranks every event, for ever: its register's time is infinity.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.customer_ids import customer_ref
from service.core.json_values import dumps
from service.db.accounts.audit import note
from service.db.customers import customer_list, emails
from service.db.customers.erasure import Extent, erase, extent
from service.db.locks import read_clock
from service.db.segments import assign


class CustomerNotFoundError(Exception):
    """There is no such customer."""


class EmailTakenError(Exception):
    """Another customer has this e-mail; its `args[0]` is that customer's id."""


class ChangedMeanwhileError(Exception):
    """The customer was edited since the caller read it; `args[0]` is their row as it is now."""


class InvalidEditError(Exception):
    """The edit contradicts itself; `args` are the field and what is wrong with it."""


@dataclass(frozen=True)
class HoldEdit:
    """What an edit says of the segment; fields that it does not name are absent from ``given``."""

    given: frozenset[str]
    segment: str | None = None
    pinned: bool = False
    until: datetime | None = None

    def resolve(self, row: Mapping[str, Any], now: datetime) -> assign.Hold | None:
        """Say what shall hold from now on: None hands the customer back to the rules.

        Raises InvalidEditError for an end that has passed.
        """
        if self.until is not None and self.until <= now:
            raise InvalidEditError("segmentPinnedUntil", "must lie in the future")
        if "segment" in self.given and self.segment is None:
            if self.pinned or self.until:
                raise InvalidEditError("segment", "null hands back to the rules: pin nothing")
            return None
        ended = row.get("segment_pinned_until")
        if ended is not None and ended <= now:  # the sweeper has not come by yet
            row = {"segment_manual": False, "segment_pinned": False}
        if not row["segment_manual"] and not (self.segment or self.pinned or self.until):
            return None
        # An end replaces a pin for good, and the other way round; what is not named stays.
        pinned = self.pinned if "pinned" in self.given else row["segment_pinned"]
        until = self.until if "until" in self.given else row.get("segment_pinned_until")
        if "until" in self.given and self.until and "pinned" not in self.given:
            pinned = False
        if "pinned" in self.given and self.pinned and "until" not in self.given:
            until = None
        if pinned and until:
            raise InvalidEditError("segmentPinnedUntil", "contradicts segmentPinned: give one")
        return assign.Hold(self.segment, pinned, until)


_TYPED = ("name", "phone", "address")

_BY_EMAIL = text("SELECT id FROM customers WHERE email_key = :email_key")
_CREATE = text("""
INSERT INTO customers (email, email_key, date_created, name, name_at, name_event)
VALUES (:email, :email_key, :now, :name, 'infinity', '') RETURNING id
""")
_SEARCHED = text(f"""
UPDATE customer_search s SET searched = {assign.searched("c")}
FROM customers c WHERE c.id = s.customer_id AND s.customer_id = :id
""")


def etag(row: Mapping[str, Any]) -> str:
    """Identify what can be edited of a customer; orders that pour in do not change it."""
    edited = [
        row[column]
        for column in (
            "email",
            "name",
            "phone",
            "address",
            "email_opt_in",
            "sms_opt_in",
            "notes",
            "segment",
            "segment_manual",
            "segment_pinned",
            "segment_pinned_until",
        )
    ]
    return f'"{hashlib.sha256(dumps(edited)).hexdigest()[:20]}"'


async def create(
    connection: AsyncConnection,
    actor: str,
    fields: Mapping[str, Any],
    held: HoldEdit,
) -> int:
    """Create a customer by hand; ``fields`` are as for `edit`, ``email`` and ``name`` among them.

    Returns the id. Raises EmailTakenError, InvalidEditError.
    """
    email_key = fields["email"].lower()
    await _refuse_taken(connection, email_key)
    await emails.take(connection, email_key)
    now = await read_clock(connection)
    created = await connection.execute(
        _CREATE,
        {"email": fields["email"], "email_key": email_key, "name": fields["name"], "now": now},
    )
    customer_id = int(created.scalar_one())
    hold = held.resolve({"segment_manual": False, "segment_pinned": False}, now)
    await assign.hold(connection, customer_id, hold, now)
    await _write(connection, customer_id, _merged(fields, None))
    await note(connection, actor, "customer.created", customer_id=customer_id)
    return customer_id


async def edit(
    connection: AsyncConnection,
    actor: str,
    customer_id: int,
    fields: Mapping[str, Any],
    held: HoldEdit,
    if_match: str | None,
) -> None:
    """Change the fields given (columns), and the hold if one is.

    Of an address only the parts given are changed; None clears all of it. Raises
    CustomerNotFoundError, ChangedMeanwhileError, EmailTakenError, InvalidEditError.
    """
    row = await customer_list.read(connection, customer_id, lock=True)
    if row is None:
        raise CustomerNotFoundError
    if if_match not in {None, "*"} and if_match != etag(dict(row)):
        raise ChangedMeanwhileError(dict(row))
    wanted = _merged(fields, row["address"])
    changed = {name: value for name, value in wanted.items() if row[name] != value}
    if "email" in changed and changed["email"].lower() != row["email"].lower():
        await _refuse_taken(connection, changed["email"].lower())
        await emails.take(connection, changed["email"])
        await emails.keep(connection, customer_id, row["email"])
    now = await read_clock(connection)
    await _write(connection, customer_id, changed)
    details = {name: [row[name], value] for name, value in changed.items()}
    if held.given:
        before = row["segment"] if row["segment_manual"] else None
        hold = held.resolve(dict(row), now)
        await assign.hold(connection, customer_id, hold, now)
        details["segment"] = [before, hold and (hold.segment or row["segment"])]
    if details:
        await note(connection, actor, "customer.updated", customer_id=customer_id, details=details)


async def delete(connection: AsyncConnection, actor: str, customer_id: int) -> None:
    """Erase a person, everywhere; their orders stay, without a name.

    Raises CustomerNotFoundError.
    """
    row = await customer_list.read(connection, customer_id, lock=True)
    if row is None:
        raise CustomerNotFoundError
    email_keys = await emails.email_keys(connection, customer_id, row["email"])
    await erase(connection, customer_id, email_keys)
    await assign.forget(connection, customer_id)
    await note(connection, actor, "customer.erased", customer_id=customer_id)


async def would_erase(connection: AsyncConnection, customer_id: int) -> Extent | None:
    """Count what `delete` would remove, and the orders that would stay; None: no such customer."""
    row = await customer_list.read(connection, customer_id)
    if row is None:
        return None
    email_keys = await emails.email_keys(connection, customer_id, row["email"])
    return await extent(connection, customer_id, email_keys)


def _merged(fields: Mapping[str, Any], address: Mapping[str, str] | None) -> dict[str, Any]:
    """Give the columns, with the whole address where a part of it was given."""
    if "address" not in fields:
        return dict(fields)
    parts = fields["address"]
    whole = {} if parts is None else {**(address or {}), **parts}
    return {**fields, "address": {name: value for name, value in whole.items() if value} or None}


async def _refuse_taken(connection: AsyncConnection, email_key: str) -> None:
    taken = (await connection.execute(_BY_EMAIL, {"email_key": email_key})).scalar()
    if taken is not None:
        raise EmailTakenError(customer_ref(taken))


async def _write(connection: AsyncConnection, customer_id: int, changed: Mapping[str, Any]) -> None:
    """Write columns of one customer, and what a search finds them by."""
    if not changed:
        return
    settings = ["date_updated = clock_timestamp()"]
    parameters: dict[str, Any] = {"id": customer_id}
    for name, value in changed.items():
        kind = "jsonb" if name == "address" else "boolean" if name.endswith("opt_in") else "text"
        settings.append(f"{name} = CAST(:{name} AS {kind})")
        parameters[name] = dumps(value).decode() if name == "address" and value else value
        if name in _TYPED:
            settings.append(f"{name}_at = 'infinity', {name}_event = ''")
        if name == "email":
            settings.append("email_key = :email_key")
            parameters["email_key"] = value.lower()
    statement = f"UPDATE customers SET {', '.join(settings)} WHERE id = :id"
    await connection.execute(text(statement), parameters)
    await connection.execute(_SEARCHED, {"id": customer_id})
