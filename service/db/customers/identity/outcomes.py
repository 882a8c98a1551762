"""Merge, split and mark, and say what became of everybody. Undone, the same is a preview."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.customers import customer_row
from service.db.customers.customer_row import CustomerRow, etag
from service.db.customers.editing import ChangedMeanwhileError, CustomerNotFoundError
from service.db.customers.identity import not_a_person
from service.db.customers.identity.claims import owner_of
from service.db.customers.identity.merge import merge
from service.db.customers.identity.split import split
from service.db.customers.own_fields.values import hold_fields
from service.db.locks import lock_customers

_INTERACTIONS = text("SELECT count(*) FROM interactions WHERE customer_id = :id")
_UNATTRIBUTED = text("""
SELECT count(*) FROM orders WHERE customer_id IS NULL AND NOT erased
  AND :identifier IN (identifier, other_identifier)
""")


@dataclass(frozen=True)
class Merge:
    """Two customers before a merge, and the one who stays after it."""

    stays: CustomerRow
    gone: CustomerRow
    after: CustomerRow
    interactions: int
    """Interactions that move to the one who stays."""


class Split(NamedTuple):
    """Both customers after a split."""

    customer: CustomerRow
    new: CustomerRow


@dataclass(frozen=True)
class Marked:
    """What a mark, or taking it away, did."""

    customer: CustomerRow | None
    """Marked: the customer who had the identifier, if they are still there. Unmarked: the customer
    who has its orders from now on."""
    gone: int | None
    """The number of the customer who is gone, because nothing else was known of them."""
    orders: int
    """Orders that belong to nobody from now on, or that did so until now."""


async def merge_by_hand(
    connection: AsyncConnection, one: int, other: int, actor: str, if_match: str | None
) -> Merge:
    """Merge two customers; the caller commits.

    ``if_match`` is the etag of ``one``. Raises CustomerNotFoundError, whose argument is the number
    of the missing one, ChangedMeanwhileError.
    """
    low, high = sorted((one, other))
    await hold_fields(connection)
    await lock_customers(connection, [low, high])
    before = await customer_row.read_all(connection, [low, high])
    for number in (one, other):
        if number not in before:
            raise CustomerNotFoundError(number)
    if if_match not in {None, "*"} and if_match != etag(before[one]):
        raise ChangedMeanwhileError(before[one])
    interactions = (await connection.execute(_INTERACTIONS, {"id": high})).scalar_one()
    await merge(connection, low, high, actor)
    after = (await customer_row.read_all(connection, [low]))[low]
    return Merge(before[low], before[high], after, int(interactions))


async def split_by_hand(
    connection: AsyncConnection,
    customer_id: int,
    identifiers: Collection[str],
    actor: str,
    if_match: str | None,
) -> Split:
    """Split a customer; the caller commits.

    Raises CustomerNotFoundError, ChangedMeanwhileError, CannotSplitError.
    """
    await hold_fields(connection)
    await lock_customers(connection, [customer_id])
    before = await customer_row.read(connection, customer_id)
    if before is None:
        raise CustomerNotFoundError(customer_id)
    if if_match not in {None, "*"} and if_match != etag(before):
        raise ChangedMeanwhileError(before)
    new = await split(connection, customer_id, identifiers, actor)
    rows = await customer_row.read_all(connection, [customer_id, new])
    return Split(rows[customer_id], rows[new])


async def mark(connection: AsyncConnection, identifier: str, actor: str) -> Marked:
    """Mark an identifier as no person; the caller commits.

    Raises CannotMarkError, OwnerChangedError.
    """
    owner = await owner_of(connection, identifier)
    before = await _unattributed(connection, identifier)
    gone = await not_a_person.mark(connection, identifier, actor)
    customer = await customer_row.read(connection, owner) if owner else None
    return Marked(customer, gone, await _unattributed(connection, identifier) - before)


async def unmark(connection: AsyncConnection, identifier: str, actor: str) -> Marked:
    """Take the mark away; the caller commits. Raises NotMarkedError, OwnerChangedError."""
    before = await _unattributed(connection, identifier)
    new = await not_a_person.unmark(connection, identifier, actor)
    customer = await customer_row.read(connection, new) if new else None
    return Marked(customer, None, before - await _unattributed(connection, identifier))


async def _unattributed(connection: AsyncConnection, identifier: str) -> int:
    result = await connection.execute(_UNATTRIBUTED, {"identifier": identifier})
    return int(result.scalar_one())
