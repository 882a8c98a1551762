"""What is expected of customers is what the model in force says (11)."""

import random
from datetime import datetime
from importlib.util import find_spec
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.outlook import KnownCustomer
from service.core.time_zones import zone_of
from service.db.engine import TRANSACTION_SECONDS
from service.db.operations.verify.findings import MOST_SHOWN, Check, Fault, fault_if, run
from service.db.outlook import models
from service.db.outlook.due import PROMISE, read_situation
from service.db.outlook.facts import facts_of
from service.db.outlook.models import Fitted
from service.db.store_clock import STORE_ZONE

REFRESH = "`crm insight refresh` computes it again."
_SAMPLE_SIZE = 500
_OFF = 0.03
"""A refresh leaves a row that is off by less than one percent, and orders come meanwhile."""
_CHANCE_OFF = 0.02
_ORDERS_OFF, _VALUE_OFF = 0.002, 0.02
"""Figures that are as small are shown as none."""

# The circle has come by whoever changed before it began. A batch that was judged before may have
# been committed later, but not by more than its time limit.
_BEFORE_THE_CIRCLE = f"""
  < CAST(:begun_at AS timestamptz) - interval '{TRANSACTION_SECONDS} seconds'
  AND o.customer_id <= coalesce(CAST(:reached AS bigint), o.customer_id)"""
# An erasure or a merge deletes the row, but a refresh that has read the facts just before may write
# it once more. Only the next refresh deletes that, and the row of somebody whose last order went.
_NOBODYS = text(f"""
SELECT o.customer_id AS customer FROM customer_outlook o
LEFT JOIN customers c ON c.id = o.customer_id
WHERE (c.id IS NULL OR c.total_orders = 0) AND coalesce(
    c.date_updated,
    (SELECT max(r.removed_at) FROM removals r WHERE r.customer_id = o.customer_id),
    '-infinity') {_BEFORE_THE_CIRCLE}
LIMIT :most
""")
_NOBODYS_CONTACTS = text(f"""
SELECT t.customer_id AS customer FROM contacts t
WHERE NOT EXISTS (SELECT FROM customers c WHERE c.id = t.customer_id)
  AND NOT EXISTS (
    SELECT FROM removals r WHERE r.customer_id = t.customer_id
      AND r.removed_at > CAST(:now AS timestamptz) - interval '{PROMISE.total_seconds()} seconds')
LIMIT :most
""")
_SAMPLE = text(f"""
SELECT o.*, {STORE_ZONE} AS zone FROM customer_outlook o JOIN customers c ON c.id = o.customer_id
WHERE c.date_updated {_BEFORE_THE_CIRCLE}
ORDER BY hashint8extended(customer_id, :seed) LIMIT :most
""")
_CHECKS = (
    Check("an outlook is of a customer who has no orders", REFRESH, _NOBODYS),
    Check("a contact is of a customer who does not exist", REFRESH, _NOBODYS_CONTACTS),
)


async def outlook_faults(connection: AsyncConnection, now: datetime) -> list[Fault]:
    """Return the outlooks and contacts of nobody, and those of a sample that are off.

    Outlooks that a circle still has time to rewrite are left out. The sample is computed again,
    which takes numpy and scipy; where they are not installed there is none.
    """
    situation = await read_situation(connection)
    circle = {
        "begun_at": situation.begun_at,
        "reached": situation.next_id if situation.under_way else None,
    }
    faults = await run(connection, _CHECKS, {"now": now, **circle})
    model = await models.newest(connection)
    if (
        model is None
        or model.fitted is None
        or situation.refreshed != model.id
        or situation.completed_at is None
        or now - situation.completed_at > PROMISE
        or not find_spec("scipy")
    ):
        return faults
    chosen = {"seed": random.randrange(2**31), "most": _SAMPLE_SIZE}
    rows = {row.customer_id: row for row in await connection.execute(_SAMPLE, {**circle, **chosen})}
    facts = await facts_of(connection, list(rows))
    return faults + fault_if(
        _off(model.fitted, rows, facts, now)[:MOST_SHOWN],
        "an outlook is not what the model says",
        REFRESH,
    )


def _off(
    fitted: Fitted, rows: dict[int, Any], facts: dict[int, KnownCustomer], now: datetime
) -> list[dict[str, Any]]:
    """Return the figures of those who differ from what the model says of these facts."""
    # Only where there is a model does this process need numpy.
    from service.db.outlook.fit import model_of  # noqa: PLC0415
    from service.insight.model import predict  # noqa: PLC0415

    if not facts:
        return []
    zone = zone_of(next(iter(rows.values())).zone)
    said = predict(model_of(fitted), fitted.cuts, list(facts.values()), now, zone)
    return [
        {"customer": number, **expected._asdict()}
        for number, expected in zip(facts, said.outlooks, strict=True)
        if _differs(rows[number], expected)
    ]


def _differs(row: Any, expected: Any) -> bool:
    exact = ("order_days", "expected_on", "overdue_on", "rfm")
    return (
        any(getattr(row, name) != getattr(expected, name) for name in exact)
        or abs(row.chance - expected.chance) > _CHANCE_OFF
        or abs(row.orders - expected.orders) > max(_OFF * expected.orders, _ORDERS_OFF)
        or abs(row.value - expected.value) > max(_OFF * expected.value, _VALUE_OFF)
    )
