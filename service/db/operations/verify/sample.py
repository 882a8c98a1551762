"""Apply the events of a sample of stored orders again, to copies of what they would change.

The copies are temporary tables. They have the names of the real ones and come first on the search
path, so the real statement writes to them. So ``crm verify`` needs no right to write orders or
customers.
"""

import random
from collections.abc import Sequence

from sqlalchemy import Table, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from service.core.batch import Outcome
from service.core.order_event import EventKey, OrderEvent
from service.db import schema
from service.db.ingest.apply import apply_events
from service.db.operations.verify.findings import MOST_SHOWN, Fault, fault_if

_SAMPLE_SIZE = 500
"""Orders whose event is applied again."""

_SAMPLE = text("""
SELECT o.id, o.version, o.updated_at, o.event_id, o.status, o.payment_status,
       coalesce(o.sent_at, o.updated_at) AS sent_at, o.total, o.refunded, o.date_created,
       o.currency, o.exchange_rate
FROM orders o ORDER BY hashtext(o.id || :seed) LIMIT :most
""")

_OWNERS = "SELECT customer_id FROM {schema}.orders WHERE id = ANY(:ids)"
_COPIED: dict[Table, str] = {
    schema.orders: "id = ANY(:ids)",
    schema.order_conflicts: "false",
    schema.identifiers: "false",
    schema.customers: f"id IN ({_OWNERS})",
    schema.customer_search: f"customer_id IN ({_OWNERS})",
    schema.segment_counters: "true",
    schema.segment_changes: "false",
    schema.daily_changes: "false",
    schema.daily_totals: "false",
}
"""The tables that applying events writes, and which of their rows it looks at."""

# The statement needs no index but the primary key. Building all of them took longer than all the
# rest of the verification of a small shop.
_LIKE = "LIKE {}.{} INCLUDING DEFAULTS INCLUDING IDENTITY INCLUDING GENERATED INCLUDING CONSTRAINTS"

# The copies were made by the transaction, and events are applied in a savepoint, which has an id of
# its own. Locking a row makes no new version of it.
_WRITTEN = text("""
WITH copying AS (SELECT CAST(pg_current_xact_id() AS xid) AS xid)
SELECT o.id AS order, NULL AS customer FROM copying, orders o WHERE o.xmin <> copying.xid
UNION ALL
SELECT NULL, c.id FROM copying, customers c WHERE c.xmin <> copying.xid
LIMIT :most
""")


async def sample_faults(engine: AsyncEngine) -> list[Fault]:
    """Apply the events of a sample of stored orders again, shuffled, to copies of their rows.

    Return the rows that it wrote, and the outcomes that it should not have had, as a fault.
    """
    async with engine.connect() as connection:
        parameters = {"seed": str(random.random()), "most": _SAMPLE_SIZE}
        rows = (await connection.execute(_SAMPLE, parameters)).all()
        if not rows:
            return []
        events = [
            OrderEvent(
                order_id=row.id,
                key=EventKey(row.version, row.updated_at, row.sent_at, row.event_id),
                profile_at=row.updated_at,
                status=row.status,
                payment_status=row.payment_status,
                total_cents=int(row.total * 100),
                refunded_cents=int(row.refunded * 100),
                date_created=row.date_created,
                customer=None,
                currency=row.currency,
                exchange_rate=row.exchange_rate,
            )
            for row in rows
        ]
        random.shuffle(events)
        await _copy(connection, [row.id for row in rows])
        async with connection.begin_nested():
            outcomes = await apply_events(connection, events)
        written = await connection.execute(_WRITTEN, {"most": MOST_SHOWN})
        changed = [dict(row) for row in written.mappings()]
        await connection.rollback()
    unexpected = {
        outcome.value: count
        for outcome, count in outcomes.items()
        # Newer events may have arrived since the sample was read.
        if outcome not in {Outcome.DUPLICATE, Outcome.STALE}
    }
    return fault_if(
        changed + ([unexpected] if unexpected else []),
        "a stored order changes something when its own event is applied again",
        "This is an error of the program, or of a trigger. Keep what is printed, and report it.",
    )


async def _copy(connection: AsyncConnection, ids: Sequence[str]) -> None:
    """Copy the rows of these orders into temporary tables, which end with the transaction."""
    place = await connection.scalar(text("SELECT quote_ident(current_schema())"))
    for table, condition in _COPIED.items():
        await connection.execute(
            text(
                f"CREATE TEMPORARY TABLE {table.name} ({_LIKE.format(place, table.name)},"
                f" PRIMARY KEY ({', '.join(table.primary_key.columns.keys())})) ON COMMIT DROP"
            )
        )
        columns = ", ".join(column.name for column in table.columns if not column.computed)
        where = condition.format(schema=place)
        await connection.execute(
            text(
                f"INSERT INTO pg_temp.{table.name} ({columns})"
                f" SELECT {columns} FROM {place}.{table.name} WHERE {where}"
            ),
            {"ids": ids} if ":ids" in where else {},
        )
