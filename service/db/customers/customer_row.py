"""The columns of a customer: which are read, and which staff can edit.

The queries, the UPDATE of an edit, the audit log and the ETag are built from these names. The API,
the form and the files name the columns that they show. A new field that staff can edit is added to
both lists here.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.json_values import dumps
from service.core.own_fields import Value
from service.core.segment_rules import Facts
from service.db.customers.identity.claims import IdentifierRow
from service.db.customers.other_currencies import OF_CUSTOMER, MoneyApart
from service.db.customers.own_fields.values import FIELDS_OF_CUSTOMER
from service.db.customers.tags.tagging import TAGS_OF_CUSTOMER


@dataclass(frozen=True)
class CustomerRow:
    """A customer as stored, with the ids of their orders."""

    id: int
    email: str | None
    email_key: str | None
    """Its normal form."""
    name: str | None
    phone: str | None
    address: Mapping[str, str] | None
    email_opt_in: bool
    sms_opt_in: bool
    notes: str
    date_created: datetime
    date_updated: datetime
    total_orders: int
    total_spent: Decimal
    first_order_date: datetime | None
    last_order_date: datetime | None
    segment: str
    segment_manual: bool
    """The segment was set by hand; it is held until its end, or until the next order."""
    segment_pinned: bool
    segment_pinned_until: datetime | None
    order_ids: Sequence[str]
    """The oldest first."""
    tags: Sequence[str]
    """By name."""
    own_fields: Mapping[str, Value]
    """The values of own fields, by key. A field without a value is not among them."""
    stored_identifiers: Sequence[tuple[str, str | None, str]]
    """The values of `identifiers`; times are texts."""
    stored_money_apart: Sequence[tuple[str, int, str]]
    """The values of `money_apart`; amounts are texts."""

    @property
    def money_apart(self) -> list[MoneyApart]:
        """What this customer spent in other currencies, and `total_spent` leaves out."""
        return [
            MoneyApart(currency, orders, Decimal(amount))
            for currency, orders, amount in self.stored_money_apart
        ]

    @property
    def facts(self) -> Facts:
        """What the segment rules look at."""
        return Facts(self.total_orders, self.total_spent, self.last_order_date)

    def free_from(self, now: datetime) -> datetime | None:
        """Return when a hold ends, ``now`` if there is none. None: not without another order."""
        if not self.segment_manual:
            return now
        return None if self.segment_pinned else self.segment_pinned_until

    @property
    def identifiers(self) -> list[IdentifierRow]:
        """What means this customer, the oldest first."""
        return [
            IdentifierRow(identifier, given_by, datetime.fromisoformat(since))
            for identifier, given_by, since in self.stored_identifiers
        ]


EDITABLE: Mapping[str, str] = {
    "email": "text",
    "name": "text",
    "phone": "text",
    "address": "jsonb",
    "email_opt_in": "boolean",
    "sms_opt_in": "boolean",
    "notes": "text",
}
"""The columns that staff can edit, with their SQL types."""

_HOLD = ("segment", "segment_manual", "segment_pinned", "segment_pinned_until")
_ORDER_IDS = """
ARRAY(SELECT o.id FROM orders o WHERE o.customer_id = c.id ORDER BY o.date_created, o.id)
  AS order_ids"""

_IDENTIFIERS = """
(SELECT coalesce(jsonb_agg(jsonb_build_array(i.identifier, i.given_by, i.since)
                           ORDER BY i.since, i.identifier), '[]')
 FROM identifiers i WHERE i.customer_id = c.id) AS stored_identifiers"""
_COMPOSED = {
    "order_ids": _ORDER_IDS,
    "tags": f"{TAGS_OF_CUSTOMER} AS tags",
    "own_fields": f"{FIELDS_OF_CUSTOMER} AS own_fields",
    "stored_identifiers": _IDENTIFIERS,
    "stored_money_apart": f"{OF_CUSTOMER} AS stored_money_apart",
}

COLUMNS = ", ".join(_COMPOSED.get(field.name, f"c.{field.name}") for field in fields(CustomerRow))
"""SQL for the columns of a `CustomerRow`, in its order, from ``customers c``."""

_LOCK = text("SELECT FROM customers WHERE id = :id FOR UPDATE")


async def read(
    connection: AsyncConnection, customer_id: int, *, lock: bool = False
) -> CustomerRow | None:
    """Return one customer. None if there is no such customer.

    ``lock`` keeps every other writer away from them until the transaction ends.
    """
    if lock:  # by a statement of its own: the next one sees what was written before the lock
        await connection.execute(_LOCK, {"id": customer_id})
    query = text(f"SELECT {COLUMNS} FROM customers c WHERE c.id = :id")
    row = (await connection.execute(query, {"id": customer_id})).one_or_none()
    return None if row is None else CustomerRow(*row)


async def read_all(
    connection: AsyncConnection, customer_ids: Sequence[int]
) -> dict[int, CustomerRow]:
    """Return those customers who exist, by number."""
    query = text(f"SELECT {COLUMNS} FROM customers c WHERE c.id = ANY(:ids)")
    rows = await connection.execute(query, {"ids": customer_ids})
    return {row.id: CustomerRow(*row) for row in rows}


def etag(customer: CustomerRow) -> str:
    """Return an HTTP entity tag of everything that can be edited; new orders do not change it."""
    edited = [getattr(customer, column) for column in (*EDITABLE, *_HOLD)]
    if customer.own_fields:
        edited.append(sorted(customer.own_fields.items()))
    return f'"{hashlib.sha256(dumps(edited)).hexdigest()[:20]}"'
