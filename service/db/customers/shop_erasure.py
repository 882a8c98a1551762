"""Erase the customers of a shop that asks for it, one after the other.

A shop's customers are those who have a number in it, and those who ordered in it as guests. Whoever
is known from elsewhere as well stays: their other orders and numbers are not the shop's. A person
decides about them one by one.

Nothing is stored of how far an erasure has come. Whoever is left is found again, so it can stop
anywhere, and go on later. The caller commits after each customer: every erasure ends with a lock on
the same row, which nobody may hold while they wait for customers.
"""

from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.identifiers import external_identifier
from service.db.accounts.audit import note
from service.db.customers import editing
from service.db.customers.editing import CustomerNotFoundError

_SHOWN = 50
"""Customers who stay, and are shown."""

# An order that an e-mail or a phone names is the shop's if the shop has told its number for it.
_OF_SHOP = """
SELECT customer_id AS id FROM identifiers
WHERE identifier >= :first AND identifier < :beyond AND customer_id IS NOT NULL
UNION
SELECT o.customer_id FROM shop_orders s JOIN orders o ON o.id = s.order_id
WHERE s.source = :domain AND o.customer_id IS NOT NULL"""
_ELSEWHERE = """(
EXISTS (SELECT FROM identifiers i WHERE i.customer_id = c.id
  AND i.identifier LIKE 'external:%' AND NOT (i.identifier >= :first AND i.identifier < :beyond))
OR EXISTS (SELECT FROM orders o WHERE o.customer_id = c.id
  AND NOT coalesce(o.identifier >= :first AND o.identifier < :beyond, false)
  AND NOT EXISTS (SELECT FROM shop_orders s WHERE s.order_id = o.id AND s.source = :domain)))"""
_NEXT = text(f"SELECT c.id FROM ({_OF_SHOP}) c WHERE NOT {_ELSEWHERE} ORDER BY c.id LIMIT :most")
_STILL_ONLY_HERE = text(f"SELECT NOT {_ELSEWHERE} FROM (SELECT CAST(:id AS bigint) AS id) c")
_COUNT = text(rf"""
SELECT count(*) FILTER (WHERE NOT elsewhere) AS only_here,
  count(*) FILTER (WHERE elsewhere) AS elsewhere,
  (array_agg(id ORDER BY id) FILTER (WHERE elsewhere))[1\:CAST(:shown AS int)] AS ids
FROM (SELECT c.id, {_ELSEWHERE} AS elsewhere FROM ({_OF_SHOP}) c) found
""")


class ShopCustomers(NamedTuple):
    """How many customers a shop has here."""

    only_here: int
    """Nobody else knows them. An erasure erases them."""
    elsewhere: int
    """Another system or an import knows them as well. They stay."""
    ids: list[int]
    """Some of those who stay."""


async def count_customers(connection: AsyncConnection, domain: str) -> ShopCustomers:
    """Count the customers of a shop."""
    row = (await connection.execute(_COUNT, {**_names(domain), "shown": _SHOWN})).one()
    return ShopCustomers(row.only_here, row.elsewhere, list(row.ids or ()))


async def next_customers(connection: AsyncConnection, domain: str, most: int) -> list[int]:
    """Return customers whom only this shop knows, in the order of their ids."""
    rows = await connection.execute(_NEXT, {**_names(domain), "most": most})
    return list(rows.scalars())


async def erase_one(connection: AsyncConnection, domain: str, customer_id: int, actor: str) -> bool:
    """Erase a customer. False if they are gone, or became known elsewhere meanwhile."""
    parameters = {**_names(domain), "id": customer_id}
    if not (await connection.execute(_STILL_ONLY_HERE, parameters)).scalar_one():
        return False
    try:
        await editing.delete(connection, actor, customer_id)
    except CustomerNotFoundError:
        return False
    return True


async def note_start(
    connection: AsyncConnection, request_id: int, domain: str, customers: int, actor: str
) -> None:
    """Note in the audit that somebody agrees to the erasure of so many customers."""
    details = {"request": request_id, "shop": domain, "customers": customers}
    await note(connection, actor, "shop-request.erasure-started", details=details)


def _names(domain: str) -> dict[str, str]:
    """Return the shop's name, and between which two identifiers those of its customers are."""
    first = external_identifier(domain, "")
    return {"domain": domain, "first": first, "beyond": first[:-1] + chr(ord(first[-1]) + 1)}
