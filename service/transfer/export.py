"""Everybody, or everything, out of the database: one COPY, streamed, in flat memory.

`customers.csv` has the guide's columns; `orders.ndjson` has a CloudEvents document for each order
(two, where an older event than the newest says whose it is). Both, imported into an empty
database in this order, give the same customers with the same metrics back.
"""

import re
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Any

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from service.db.customers.filters import Filter
from service.db.engine import SCAN_SECONDS, limit_transaction

COLUMNS = (
    "ID",
    "Name",
    "Email",
    "Phone",
    "Segment",
    "Date Created",
    "Last Order Date",
    "Total Orders",
    "Total Spent",
    "Notes",
)
SOURCE = "/recovery-essentials-crm/export"
BOM = b"\xef\xbb\xbf"
"""Without it Excel takes UTF-8 for the machine's old code page, and every ``é`` for two letters."""

Sink = Callable[[bytes], Awaitable[None]]

# What spreadsheets take for the start of a formula, full-width forms too, and what some of them
# skip before it. An apostrophe counts as skipped, so that undoing finds exactly what was done.
_FORMULA = "[ \\u0027\\u00a0\\u3000]*[=+@\\t\\r\\n\\uff1d\\uff0b\\uff0d\\uff20-]"
_CELL = f"^(?={_FORMULA})"
# Opened where `;` or a tab separates, a cell begins after each of these as well.
_ANY_CELL = f"(?<![^;\\t\\n\\r])(?={_FORMULA})"
_ARMED = re.compile(f"\\A'(?={_FORMULA})")
_ANY_ARMED = re.compile(f"(?<![^;\\t\\n\\r])'(?={_FORMULA})")


def defused(column: str) -> str:
    """Write SQL that puts an apostrophe before what a spreadsheet would run as a formula.

    For what strangers type (names, e-mails, phones), which never has reason to contain a cell's
    end and then a formula.
    """
    return f"regexp_replace({column}, '{_ANY_CELL}', '''', 'g')"


def undefused(value: str, *, words: bool = False) -> str:
    """Take those apostrophes away again; ``words`` as for notes, defused at their start only."""
    return (_ARMED if words else _ANY_ARMED).sub("", value)


def _utc(column: str) -> str:
    # to_char takes eight times as long.
    return f"replace(CAST({column} AT TIME ZONE 'UTC' AS text), ' ', 'T') || 'Z'"


_CUSTOMERS = f"""
SELECT 'CUST-' || c.id AS "ID", {defused("c.name")} AS "Name", {defused("c.email")} AS "Email",
       {defused("c.phone")} AS "Phone", c.segment AS "Segment",
       {_utc("c.date_created")} AS "Date Created",
       {_utc("c.last_order_date")} AS "Last Order Date",
       c.total_orders AS "Total Orders", c.total_spent AS "Total Spent",
       regexp_replace(nullif(c.notes, ''), '{_CELL}', '''') AS "Notes"
FROM customers c
"""


def _told(value: str) -> str:
    """Write a profile value into the documents that are not newer than it, and into the earliest.

    So that it arrives, and does not seem to have been told later than it was.
    """
    return (
        f"CASE WHEN (k.at, k.event_id) <= (c.{value}_at, c.{value}_event) OR NOT EXISTS ("
        " SELECT FROM orders e WHERE e.customer_id = o.customer_id"
        " AND (e.named_at, e.named_event_id) < (o.named_at, o.named_event_id)"
        f") THEN c.{value} END"
    )


_ORDERS = f"""
SELECT json_strip_nulls(json_build_object(
  'specversion', '1.0', 'id', k.event_id, 'source', '{SOURCE}', 'type', 'order-updated',
  'time', k.at, 'subject', o.id,
  'erased', CASE WHEN o.erased AND o.customer_id IS NULL THEN true END,
  'data', json_build_object(
    'id', o.id, 'version', k.version,
    'customer', CASE WHEN k.names THEN json_build_object(
      'email', c.email, 'name', {_told("name")}, 'phone', {_told("phone")}) END,
    'status', o.status, 'paymentStatus', o.payment_status,
    'totalAmount', CAST(o.total AS text), 'refundedAmount', CAST(o.refunded AS text),
    'currency', CAST(:currency AS text),
    'shippingAddress', CASE WHEN k.names THEN {_told("address")} END,
    'dateCreated', o.date_created, 'dateUpdated', k.at)))
FROM orders o LEFT JOIN customers c ON c.id = o.customer_id
CROSS JOIN LATERAL (
  SELECT o.named_version, o.named_at, o.named_event_id, true
  WHERE c.id IS NOT NULL AND o.named_event_id <> o.event_id
  UNION ALL
  SELECT o.version, o.updated_at, o.event_id,
         c.id IS NOT NULL AND o.named_event_id = o.event_id
) k (version, at, event_id, names)
ORDER BY o.id
"""


class ExportKind(StrEnum):
    """What can be exported, and imported again."""

    CUSTOMERS = "customers"
    ORDERS = "orders"


async def copy_customers(engine: AsyncEngine, wanted: Filter, sink: Sink) -> int:
    """Write the customers of a filter as CSV, in the order of their ids; give how many.

    ``sink`` is awaited for each piece, so a slow reader slows Postgres down. An error, and being
    cancelled, ends the COPY and gives the connection back.
    """
    where, parameters = wanted.where()
    query = f"{_CUSTOMERS} WHERE {where} ORDER BY c.id"
    return await _copy(engine, query, parameters, sink, header=True)


async def copy_orders(engine: AsyncEngine, currency: str, sink: Sink) -> int:
    """Write all orders as lines of JSON, as above; give the number of lines."""
    # JSON has no control characters: with these, COPY neither quotes nor escapes anything.
    form = {"delimiter": "\x02", "quote": "\x01"}
    return await _copy(engine, _ORDERS, {"currency": currency}, sink, **form)


async def _copy(
    engine: AsyncEngine, query: str, parameters: dict[str, Any], sink: Sink, **form: Any
) -> int:
    async with engine.connect() as connection:
        await connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
        await limit_transaction(connection, SCAN_SECONDS + 60)
        await connection.execute(text("SET LOCAL datestyle = 'ISO'"))
        driver: Any = (await connection.get_raw_connection()).driver_connection
        compiled = text(query).bindparams(**parameters).compile(dialect=engine.dialect)
        values = compiled.construct_params()
        # COPY takes no parameters: the driver has Postgres itself quote them into the query.
        arguments = [values[name] for name in compiled.positiontup or ()]
        try:
            status: str = await driver.copy_from_query(
                str(compiled),
                *arguments,
                output=sink,
                format="csv",
                timeout=SCAN_SECONDS,
                **form,
            )
        except (asyncpg.PostgresConnectionError, asyncpg.InterfaceError) as error:
            raise ConnectionError(*error.args) from error
    return int(status.removeprefix("COPY "))
