"""Export customers and orders: each is one COPY from Postgres, streamed in constant memory.

`customers.csv` has the columns of the integration guide, then what is expected of each customer,
which an import leaves aside, and at its end the own fields. `orders.ndjson` has one CloudEvents
document per order, or two if an older event than the newest one named the customer. Imported into
an empty database, customers first, they give the same customers with the same metrics.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, BinaryIO

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from service.core.order_event import REGISTERS
from service.core.own_fields import FieldKind, OwnField
from service.core.rfm import GRID
from service.db.customers.filters import Filter
from service.db.customers.other_currencies import OF_CUSTOMER_IN_A_CELL
from service.db.customers.own_fields.catalogue import list_fields
from service.db.engine import SCAN_SECONDS, limit_transaction
from service.db.outlook import models
from service.db.store_clock import STORE_ZONE
from service.transfer.customer_lines import OUTLOOK_COLUMNS, PINNED, UNTIL_NEXT_ORDER
from service.transfer.formulas import escaped_notes_sql, escaped_sql
from service.transfer.lines import FileKind
from service.transfer.own_fields_in import own_columns

SOURCE = "/recovery-essentials-crm/export"
BOM = b"\xef\xbb\xbf"
"""Without it, Excel reads UTF-8 in the machine's old code page, and shows two letters for ``é``."""

Sink = Callable[[bytes], Awaitable[None]]


def _utc(column: str) -> str:
    # to_char would take eight times as long.
    return f"replace(CAST({column} AT TIME ZONE 'UTC' AS text), ' ', 'T') || 'Z'"


def _day(column: str) -> str:
    return f"CAST({column} AT TIME ZONE {STORE_ZONE} AS date)"


def _yes_or_no(column: str) -> str:
    return f"CASE WHEN {column} THEN 'yes' ELSE 'no' END"


def _rounded(column: str, digits: int) -> str:
    return f"round(CAST({column} AS numeric), {digits})"


def rfm_group_sql(column: str) -> str:
    """Return SQL for the group of the three scores that a column has as one number."""
    groups = ", ".join(f"'{group}'" for _, row in sorted(GRID.items()) for group in row)
    recency, others = f"({column} / 100)", f"({column} / 10 % 10 + {column} % 10 + 1) / 2"
    return f"(ARRAY[{groups}])[5 * ({recency} - 1) + {others}]"


_COLUMNS = {
    "ID": "'CUST-' || c.id",
    "Name": escaped_sql("c.name"),
    "Email": escaped_sql("c.email"),
    "Phone": escaped_sql("c.phone"),
    "Segment": "c.segment",
    "Date Created": _utc("c.date_created"),
    "Last Order Date": _utc("c.last_order_date"),
    "Total Orders": "c.total_orders",
    "Total Spent": "c.total_spent",
    "Notes": escaped_notes_sql("c.notes"),
    "Other Currencies": OF_CUSTOMER_IN_A_CELL,
    "Day Created": _day("c.date_created"),
    "Day of Last Order": _day("c.last_order_date"),
    "Email Opt-in": _yes_or_no("c.email_opt_in"),
    "SMS Opt-in": _yes_or_no("c.sms_opt_in"),
    **{
        part.title(): escaped_sql(f"c.address ->> '{part}'")
        for part in ("street", "city", "state", "zip", "country")
    },
    "Hold": (
        f"CASE WHEN c.segment_pinned THEN '{PINNED}' WHEN c.segment_manual"
        f" THEN coalesce({_utc('c.segment_pinned_until')}, '{UNTIL_NEXT_ORDER}') END"
    ),
    "Identifiers": (
        "(SELECT json_agg(i.identifier ORDER BY i.identifier) FROM identifiers i"
        " WHERE i.customer_id = c.id AND i.identifier NOT LIKE 'customer:%'"
        " AND i.identifier <> coalesce('email:' || c.email_key, ''))"
    ),
    "By Hand": "nullif(concat_ws(', ', {}), '')".format(
        ", ".join(f"CASE WHEN c.{name}_at = 'infinity' THEN '{name}' END" for name in REGISTERS)
    ),
    "Tags": escaped_sql(
        "(SELECT string_agg(t.name, ', ' ORDER BY t.folded) FROM customer_tags ct"
        " JOIN tags t ON t.id = ct.tag_id WHERE ct.customer_id = c.id)"
    ),
    **dict(
        zip(
            OUTLOOK_COLUMNS,
            (
                _rounded("o.chance", 4),
                _rounded("o.orders", 3),
                f"CASE WHEN :shows_money THEN {_rounded('o.value', 2)} END",
                "o.expected_on",
                rfm_group_sql("o.rfm"),
            ),
            strict=True,
        )
    ),
}
"""The columns of customers.csv, and the SQL of each. Times are UTC and end with Z; days are those
of the store's time zone, so that a spreadsheet groups them as the dashboard does."""
COLUMNS = tuple(_COLUMNS)
_CUSTOMERS = f"""
SELECT {", ".join(f'{sql} AS "{column}"' for column, sql in _COLUMNS.items())}{{own}}
FROM customers c
LEFT JOIN customer_outlook o ON o.customer_id = c.id AND c.total_orders > 0
LEFT JOIN customer_fields f ON f.customer_id = c.id
"""


def _own_columns(fields: Sequence[OwnField]) -> str:
    """Return the columns of own fields. Their keys have nothing that SQL would read."""
    columns = ""
    for column, field in zip(own_columns(fields), fields, strict=True):
        value = f"f.field_values ->> '{field.key}'"
        is_text = field.kind in {FieldKind.TEXT, FieldKind.CHOICE}
        columns += f', {escaped_sql(value) if is_text else value} AS "{column}"'
    return columns


def _profile(value: str) -> str:
    """Return SQL for a profile value in the document of one order event.

    The value goes into each document that is not newer than it, and into the customer's earliest
    one. So it always arrives, and never seems to be newer than it was.
    """
    return (
        f"CASE WHEN (k.at, k.event_id) <= (c.{value}_at, c.{value}_event) OR NOT EXISTS ("
        " SELECT FROM orders e WHERE e.customer_id = o.customer_id"
        " AND (e.named_at, e.named_event_id) < (o.named_at, o.named_event_id)"
        f") THEN c.{value} END"
    )


_EXTERNAL_SOURCE = (
    "CASE WHEN k.names AND o.identifier LIKE 'external:%' THEN"
    " replace(replace(substr(split_part(o.identifier, '#', 1), 10), '%23', '#'), '%25', '%') END"
)
_EXTERNAL_ID = (
    "CASE WHEN o.identifier LIKE 'external:%' THEN substr(o.identifier, strpos(o.identifier, '#')"
    " + 1) END"
)
_NAMING_PHONE = "CASE WHEN o.identifier LIKE 'phone:%' THEN substr(o.identifier, 7) END"
_ORDERS = f"""
SELECT json_strip_nulls(json_build_object(
  'specversion', '1.0', 'id', k.event_id, 'source', coalesce({_EXTERNAL_SOURCE}, '{SOURCE}'),
  'type', 'order-updated',
  'time', k.sent, 'subject', o.id,
  'erased', CASE WHEN o.erased AND o.customer_id IS NULL THEN true END,
  'data', json_build_object(
    'id', o.id, 'version', k.version,
    'customer', CASE WHEN k.names THEN json_build_object(
      'id', {_EXTERNAL_ID}, 'email', c.email, 'name', {_profile("name")},
      'phone', coalesce({_profile("phone")}, {_NAMING_PHONE})) END,
    'status', o.status, 'paymentStatus', o.payment_status,
    'totalAmount', CAST(o.total AS text), 'refundedAmount', CAST(o.refunded AS text),
    'currency', coalesce(o.currency, CAST(:currency AS text)),
    'exchangeRate', CAST(o.exchange_rate AS text),
    'shippingAddress', CASE WHEN k.names THEN {_profile("address")} END,
    'dateCreated', o.date_created, 'dateUpdated', k.at)))
FROM orders o LEFT JOIN customers c ON c.id = o.customer_id
CROSS JOIN LATERAL (
  SELECT o.named_version, o.named_at, coalesce(o.named_sent_at, o.named_at), o.named_event_id, true
  WHERE c.id IS NOT NULL AND o.named_event_id <> o.event_id AND o.named_at < 'infinity'
  UNION ALL
  SELECT o.version, o.updated_at, coalesce(o.sent_at, o.updated_at), o.event_id,
         -- what staff assigned by hand, no event has named
         c.id IS NOT NULL AND (o.named_event_id = o.event_id OR o.named_at = 'infinity')
) k (version, at, sent, event_id, names)
ORDER BY o.id
"""


async def export(engine: AsyncEngine, kind: FileKind, currency: str, file: BinaryIO) -> int:
    """Write all customers or all orders to a file; return the number of lines."""

    async def sink(piece: bytes) -> None:
        file.write(piece)

    if kind is FileKind.ORDERS:
        return await copy_orders(engine, currency, sink)
    file.write(BOM)
    return await copy_customers(engine, Filter(), sink)


async def copy_customers(engine: AsyncEngine, chosen: Filter, sink: Sink) -> int:
    """Write the customers that a filter chooses as CSV, sorted by id; return how many.

    ``sink`` is awaited for each piece, so a slow reader slows Postgres down. After an error or a
    cancellation, the COPY has ended and its connection is back in the pool.
    """
    where, parameters = chosen.where()
    async with engine.connect() as connection:
        model = await models.newest(connection)
        own = _own_columns(await list_fields(connection))
    query = f"{_CUSTOMERS.replace('{own}', own)} WHERE {where} ORDER BY c.id"
    parameters["shows_money"] = model is not None and model.verdict.shows_money
    return await _copy(engine, query, parameters, sink, header=True)


async def copy_orders(engine: AsyncEngine, currency: str, sink: Sink) -> int:
    """Write all orders as lines of JSON; return the number of lines."""
    # JSON has no control characters: with these two, COPY quotes and escapes nothing.
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
        # COPY takes no parameters. The driver lets Postgres quote the values into the query.
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
