"""The changes that staff make to a customer: create, edit, hold a segment, erase.

The caller commits.

A value that staff typed always wins over the values of events: the key of its register has the time
infinity.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.customer_ids import customer_ref
from service.core.identifiers import email_identifier, email_key, phone_identifier, phone_key
from service.core.json_values import dumps
from service.core.order_event import REGISTERS
from service.core.removal_event import RemovalReason
from service.core.segment_event import Cause
from service.db import registers
from service.db.accounts.audit import note
from service.db.customers import customer_row, erasure, mentions, removals
from service.db.customers.customer_row import EDITABLE, CustomerRow, etag
from service.db.customers.erasure import Extent
from service.db.customers.identifiers import identifiers_of
from service.db.customers.identity.claims import TakenError, claim
from service.db.customers.own_fields.values import InvalidValueError, change_values, hold_fields
from service.db.locks import lock_customers, read_clock
from service.db.search_text import write_search_text
from service.db.segments import assign


class CustomerNotFoundError(Exception):
    """There is no such customer."""


class EmailTakenError(Exception):
    """The e-mail means another customer; ``args[0]`` is the id of that customer."""


class ChangedMeanwhileError(Exception):
    """The customer was edited after the caller read them; ``args[0]`` is their row now."""


class InvalidEditError(Exception):
    """The edit contradicts itself; ``args`` are the field and what is wrong with it."""


@dataclass(frozen=True)
class Erased:
    """What an erasure erases, and what is left for people to look at."""

    extent: Extent
    mentions: mentions.Mentions
    at: datetime


@dataclass(frozen=True)
class HoldEdit:
    """The part of an edit that sets or ends a hold. ``given`` names the fields of the request."""

    given: frozenset[str]
    segment: str | None = None
    pinned: bool = False
    until: datetime | None = None

    def resolve(self, customer: CustomerRow | None, now: datetime) -> assign.Hold | None:
        """Return the hold that the edit leads to. None hands the customer back to the rules.

        ``customer`` None means a new customer. Raises InvalidEditError for an end in the past and
        for fields that contradict each other.
        """
        if self.until is not None and self.until <= now:
            raise InvalidEditError("segmentPinnedUntil", "must lie in the future")
        if "segment" in self.given and self.segment is None:
            if self.pinned or self.until:
                raise InvalidEditError(
                    "segment", "null hands the customer back to the rules; do not pin it as well"
                )
            return None
        before = _hold_in_force(customer, now)
        if before is None and not (self.segment or self.pinned or self.until):
            return None
        # A new end replaces a pin without end, and the other way round. Fields not named stay.
        pinned = self.pinned if "pinned" in self.given else before is not None and before.pinned
        until = self.until if "until" in self.given else (before.until if before else None)
        if "until" in self.given and self.until and "pinned" not in self.given:
            pinned = False
        if "pinned" in self.given and self.pinned and "until" not in self.given:
            until = None
        if pinned and until:
            raise InvalidEditError(
                "segmentPinnedUntil", "contradicts segmentPinned; send only one of them"
            )
        return assign.Hold(self.segment, pinned, until)


def _hold_in_force(customer: CustomerRow | None, now: datetime) -> assign.Hold | None:
    if customer is None or not customer.segment_manual:
        return None
    until = customer.segment_pinned_until
    if until is not None and until <= now:
        return None  # it has ended; the sweep has not processed it yet
    return assign.Hold(customer.segment, customer.segment_pinned, until)


_CREATE = text("""
INSERT INTO customers (date_created, name, name_at, name_event)
SELECT :now, name, CASE WHEN name IS NOT NULL THEN timestamptz 'infinity' END,
  CASE WHEN name IS NOT NULL THEN '' END
FROM (SELECT CAST(:name AS text)) AS given (name) RETURNING id
""")
_TOUCH = text("UPDATE customers SET date_updated = clock_timestamp() WHERE id = :id")
OWN = "field."
"""Begins the name of an own field in the audit; its key follows."""
# Orders that an earlier release named do not say by what. It was the e-mail that changes now.
_KEEP_NAMED = text("""
UPDATE orders SET identifier = :identifier WHERE customer_id = :id AND identifier IS NULL
""")


async def create(
    connection: AsyncConnection,
    actor: str,
    fields: Mapping[str, Any],
    hold_edit: HoldEdit,
    country: str | None = None,
    *,
    own: Mapping[str, Any] | None = None,
) -> int:
    """Create a customer by hand and return their number.

    ``fields`` are those of `edit`; a name, a phone or an e-mail is among them. Without an e-mail,
    orders that have this phone and nothing else are theirs, unless it means somebody else already.
    ``country`` is where phones without ``+`` are from. ``own`` has values of own fields by key.
    Raises EmailTakenError, InvalidEditError.
    """
    _require_one(fields)
    if own:
        await hold_fields(connection)
    now = await read_clock(connection)
    created = await connection.execute(_CREATE, {"name": fields.get("name"), "now": now})
    customer_id = int(created.scalar_one())
    if fields.get("email"):
        await _claim(connection, actor, customer_id, fields["email"])
    elif key := phone_key(fields.get("phone") or "", country):
        with suppress(TakenError):  # a phone may be shared; the two are listed as duplicates
            await claim(connection, customer_id, phone_identifier(key), actor)
    held = hold_edit.resolve(None, now)
    cause = Cause.MANUAL if held else Cause.ENTRY
    await assign.hold(connection, customer_id, held, now, cause)
    await _write(connection, customer_id, _with_whole_address(fields, None))
    await _change_own(connection, customer_id, {}, own or {})
    await note(connection, actor, "customer.created", customer_id=customer_id)
    return customer_id


async def edit(
    connection: AsyncConnection,
    actor: str,
    customer_id: int,
    fields: Mapping[str, Any],
    hold_edit: HoldEdit,
    if_match: str | None,
    *,
    own: Mapping[str, Any] | None = None,
) -> None:
    """Change the given columns of a customer, and the hold if the edit names it.

    ``fields`` maps columns of `EDITABLE` to their new values. An address may have only some parts:
    only these change. An address of None clears all parts. ``own`` has values of own fields by key;
    None clears one. Raises CustomerNotFoundError, ChangedMeanwhileError, EmailTakenError,
    InvalidEditError.
    """
    if own:
        await hold_fields(connection)
    customer = await customer_row.read(connection, customer_id, lock=True)
    if customer is None:
        raise CustomerNotFoundError
    if if_match not in {None, "*"} and if_match != etag(customer):
        raise ChangedMeanwhileError(customer)
    wanted = _with_whole_address(fields, customer.address)
    before = {name: getattr(customer, name) for name in wanted}
    changed = {name: value for name, value in wanted.items() if before[name] != value}
    if not changed.keys().isdisjoint(_SHOWN_AS):
        _require_one({**{name: getattr(customer, name) for name in _SHOWN_AS}, **changed})
    if "email" in changed:
        if customer.email_key:
            old = {"id": customer_id, "identifier": email_identifier(customer.email_key)}
            await connection.execute(_KEEP_NAMED, old)
        if changed["email"]:
            await _claim(connection, actor, customer_id, changed["email"])
    now = await read_clock(connection)
    await _write(connection, customer_id, changed)
    details = {name: [before[name], value] for name, value in changed.items()}
    details |= await _change_own(connection, customer_id, customer.own_fields, own or {})
    if hold_edit.given:
        hold = hold_edit.resolve(customer, now)
        await assign.hold(connection, customer_id, hold, now)
        details["segment"] = [
            customer.segment if customer.segment_manual else None,
            hold and (hold.segment or customer.segment),
        ]
    if details:
        await note(connection, actor, "customer.updated", customer_id=customer_id, details=details)


async def delete(connection: AsyncConnection, actor: str, customer_id: int) -> Erased:
    """Erase a person everywhere. Their orders stay, without a person.

    Raises CustomerNotFoundError.
    """
    await hold_fields(connection)
    await lock_customers(connection, await erasure.paired(connection, customer_id))
    customer = await customer_row.read(connection, customer_id, lock=True)
    if customer is None:
        raise CustomerNotFoundError
    identifiers = await identifiers_of(connection, customer)
    done = await erasure.erase(connection, customer_id, identifiers)
    found = await mentions.of_others(connection, customer_id, identifiers)
    await assign.forget(connection, customer_id)
    await removals.add(connection, [customer_id], RemovalReason.ERASED)
    await note(
        connection,
        actor,
        "customer.erased",
        customer_id=customer_id,
        details={"erased": done.hashes},
    )
    await erasure.count(connection, done.ids_replaced)
    return Erased(done.extent, found, await read_clock(connection))


async def would_erase(connection: AsyncConnection, customer_id: int) -> Erased:
    """Return what `delete` would erase, and what would stay. Raises CustomerNotFoundError."""
    customer = await customer_row.read(connection, customer_id)
    if customer is None:
        raise CustomerNotFoundError
    identifiers = await identifiers_of(connection, customer)
    return Erased(
        await erasure.extent(connection, customer_id, identifiers),
        await mentions.of_others(connection, customer_id, identifiers),
        await read_clock(connection),
    )


_SHOWN_AS = ("name", "email", "phone")
"""What people call a customer by. One of them is enough."""


def _require_one(fields: Mapping[str, Any]) -> None:
    if not any(fields.get(name) for name in _SHOWN_AS):
        raise InvalidEditError("name", "is missing; give a name, an e-mail or a phone")


def _with_whole_address(
    fields: Mapping[str, Any], address: Mapping[str, str] | None
) -> dict[str, Any]:
    """Return the columns to write. If some parts of the address are given, the others are added."""
    if "address" not in fields:
        return dict(fields)
    parts = fields["address"]
    whole = {} if parts is None else {**(address or {}), **parts}
    return {**fields, "address": {name: value for name, value in whole.items() if value} or None}


async def _claim(connection: AsyncConnection, actor: str, customer_id: int, email: str) -> None:
    key = email_key(email)
    if key is None:
        raise InvalidEditError("email", "is not an e-mail address")
    try:
        await claim(connection, customer_id, email_identifier(key), actor)
    except TakenError as error:
        if error.args[1] is None:
            raise InvalidEditError(
                "email", "was marked as not a person; take that mark away first"
            ) from None
        raise EmailTakenError(customer_ref(error.args[1])) from None


async def _change_own(
    connection: AsyncConnection,
    customer_id: int,
    before: Mapping[str, Any],
    given: Mapping[str, Any],
) -> dict[str, Any]:
    """Change values of own fields; return the details for the audit."""
    if not given:
        return {}
    try:
        changes = await change_values(connection, customer_id, before, given)
    except InvalidValueError as error:
        key, reason = error.args
        field = f"fields.{key}"
        raise InvalidEditError(field, reason) from None
    if changes:
        await connection.execute(_TOUCH, {"id": customer_id})
    return {f"{OWN}{key}": change for key, change in changes.items()}


async def _write(connection: AsyncConnection, customer_id: int, changed: Mapping[str, Any]) -> None:
    """Write columns of one customer, and bring the search index up to date."""
    if not changed:
        return
    settings = ["date_updated = clock_timestamp()"]
    parameters: dict[str, Any] = {"id": customer_id}
    for name, value in changed.items():
        kind = EDITABLE[name]
        settings.append(f"{name} = CAST(:{name} AS {kind})")
        parameters[name] = dumps(value).decode() if kind == "jsonb" and value else value
        if name in REGISTERS:
            settings.append(registers.typed_key(name))
        if name == "email":
            settings.append("email_key = :email_key")
            parameters["email_key"] = value and email_key(value)
    statement = f"UPDATE customers SET {', '.join(settings)} WHERE id = :id"
    await connection.execute(text(statement), parameters)
    await write_search_text(connection, [customer_id])
