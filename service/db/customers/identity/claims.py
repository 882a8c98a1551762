"""Read whom identifiers mean, and give new ones to customers."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.identifiers import (
    IdentifierKind,
    customer_identifier,
    kind_of,
    value_of,
)

_OF_CUSTOMER = text("""
SELECT identifier, given_by, since FROM identifiers WHERE customer_id = :id
ORDER BY since, identifier
""")
_OWNER = text("SELECT customer_id FROM identifiers WHERE identifier = :identifier")
_CLAIM = text("""
INSERT INTO identifiers (identifier, customer_id, given_by) VALUES (:identifier, :id, :given_by)
ON CONFLICT (identifier) DO UPDATE SET since = identifiers.since RETURNING customer_id
""")


# Orders that an earlier release named do not say by what. It was the e-mail.
_ORDERS = text("""
SELECT n.identifier, count(*) AS came_with,
  count(*) FILTER (WHERE n.identifier = coalesce(o.identifier, 'email:' || c.email_key)) AS follow
FROM orders o JOIN customers c ON c.id = o.customer_id
CROSS JOIN LATERAL (
  SELECT DISTINCT identifier FROM unnest(ARRAY[
    coalesce(o.identifier, 'email:' || c.email_key), o.other_identifier]) AS u (identifier)) n
WHERE o.customer_id = :id AND n.identifier IS NOT NULL GROUP BY n.identifier
""")


class IdentifierRow(NamedTuple):
    """An identifier of a customer."""

    identifier: str
    given_by: str | None
    """Who gave it to them; None: an event did."""
    since: datetime


class OrdersNamed(NamedTuple):
    """The orders of an identifier."""

    came_with: int
    follow: int
    """Those that it named before any other. They go where it goes."""


class TakenError(Exception):
    """Another customer has this identifier; ``args`` are the identifier and their number.

    The number is None if the identifier was marked as no person.
    """


async def of_customer(connection: AsyncConnection, customer_id: int) -> list[IdentifierRow]:
    """Return the identifiers of a customer, the oldest first."""
    rows = await connection.execute(_OF_CUSTOMER, {"id": customer_id})
    return [IdentifierRow(*row) for row in rows]


async def orders_named_by(connection: AsyncConnection, customer_id: int) -> dict[str, OrdersNamed]:
    """Return how many of a customer's orders came with each identifier that any came with."""
    rows = await connection.execute(_ORDERS, {"id": customer_id})
    return {row.identifier: OrdersNamed(row.came_with, row.follow) for row in rows}


async def emails_of(connection: AsyncConnection, customer_id: int) -> list[str]:
    """Return all e-mails that mean a customer, in their normal form, the oldest first."""
    rows = await of_customer(connection, customer_id)
    return emails_among([row.identifier for row in rows])


def emails_among(identifiers: Sequence[str]) -> list[str]:
    """Return the e-mails among identifiers."""
    return [value_of(each) for each in identifiers if kind_of(each) is IdentifierKind.EMAIL]


async def owner_of(connection: AsyncConnection, identifier: str) -> int | None:
    """Return the customer whom an identifier means; None if nobody, or if it is no person."""
    return (await connection.execute(_OWNER, {"identifier": identifier})).scalar()


async def stays_as(connection: AsyncConnection, number: int) -> int | None:
    """Return the customer into whom a customer was merged; None if they were not."""
    return await owner_of(connection, customer_identifier(number))


async def claim(
    connection: AsyncConnection, customer_id: int, identifier: str, given_by: str
) -> None:
    """Give an identifier to a customer, unless they have it. Raises TakenError."""
    parameters = {"id": customer_id, "identifier": identifier, "given_by": given_by}
    owner = (await connection.execute(_CLAIM, parameters)).scalar_one()
    if owner != customer_id:
        raise TakenError(identifier, owner)
