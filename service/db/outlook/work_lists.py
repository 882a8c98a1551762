"""The work lists: whom to write to today, and who was contacted or left out before."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.rfm import RfmGroup, scores
from service.core.segment_rules import Segment
from service.core.work_lists import (
    LAPSING_DAYS,
    OVERDUE_CHANCE,
    QUIET_CHANCE,
    REST_DAYS,
    SECOND_ORDER_DAYS,
    TOP_SHARE,
    WorkList,
)
from service.db.segments.rules_sql import lapsing_sql, later_sql
from service.db.statistics.answer_cache import recall
from service.db.store_clock import STORE_ZONE, read_store_clock

CACHE_NAME = "work_lists"

_THEN = f"CAST(:now AS timestamptz) + interval '{LAPSING_DAYS} days'"
_TODAY = f"CAST(CAST(:now AS timestamptz) AT TIME ZONE {STORE_ZONE} AS date)"
CONDITIONS = {
    WorkList.LAPSING: lapsing_sql("c", "later", _THEN),
    WorkList.OVERDUE: f"o.overdue_on < {_TODAY} AND o.chance >= {OVERDUE_CHANCE}",
    WorkList.WIN_BACK: (
        f"c.segment IN ('{Segment.AT_RISK}', '{Segment.INACTIVE}')"
        " AND o.value >= CAST(:top AS float8)"
    ),
    WorkList.QUIET_VIPS: f"c.segment = '{Segment.VIP}' AND o.chance < {QUIET_CHANCE}",
    WorkList.SECOND_ORDER: (
        "c.total_orders = 1 AND o.value >= CAST(:top AS float8)"
        f" AND c.last_order_date > CAST(:now AS timestamptz) - interval '{SECOND_ORDER_DAYS} days'"
    ),
}
"""Who is on each list: a condition on ``customers c``, ``customer_outlook o`` and ``later``."""
_RESTING = f"""EXISTS (
      SELECT FROM contacts t JOIN contact_rounds r ON r.id = t.round_id
      WHERE t.customer_id = c.id
        AND r.marked_at > CAST(:now AS timestamptz) - interval '{REST_DAYS} days')"""
# A b-tree on the value delivers the threshold without a sort.
_TOP = text(f"""
SELECT coalesce((
  SELECT value FROM customer_outlook ORDER BY value DESC, customer_id DESC LIMIT 1
  OFFSET CAST(floor({TOP_SHARE} * (SELECT count(*) FROM customer_outlook)) AS bigint)), 0)
""")
_JOINED = "customer_outlook o JOIN customers c ON c.id = o.customer_id CROSS JOIN later"
_COUNTS = text(f"""
WITH {later_sql(_THEN)}
SELECT {
    ", ".join(
        f"count(*) FILTER (WHERE {condition}) AS {name},"
        f" coalesce(sum(o.value) FILTER (WHERE {condition}), 0) AS {name}_value"
        for name, condition in CONDITIONS.items()
    )
}
FROM {_JOINED} WHERE NOT {_RESTING}
""")
_GROUPS = text("""
SELECT o.rfm, count(*) AS customers, sum(c.total_spent) AS spent, sum(o.value) AS value
FROM customer_outlook o JOIN customers c ON c.id = o.customer_id GROUP BY o.rfm
""")
_PROSPECTS = text("SELECT coalesce(sum(customers - with_orders), 0) FROM segment_counters")


class Listed(NamedTuple):
    """How many customers are on a list, and how much is expected of them in a year."""

    customers: int
    value: float


class GroupFigures(NamedTuple):
    """The customers of an RFM group."""

    customers: int
    spent: Decimal
    value: float


class Overview(NamedTuple):
    """What the work lists and the RFM groups add up to."""

    as_of: datetime
    top: float
    """The least expected value of the top fifth of all customers."""
    lists: dict[WorkList, Listed]
    groups: dict[RfmGroup, GroupFigures]


async def overview(connection: AsyncConnection) -> Overview:
    """Return the sums; those that take long to compute are as a worker last computed them."""
    cached = await recall(connection, CACHE_NAME)
    if cached:
        return _overview(cached.as_of, cached.answer)
    clock = await read_store_clock(connection)
    return _overview(clock.now, await compute(connection, clock.now))


async def compute(connection: AsyncConnection, now: datetime) -> dict[str, Any]:
    """Compute what is cached, as JSON can hold it."""
    top = float((await connection.execute(_TOP)).scalar_one())
    counts = (await connection.execute(_COUNTS, {"now": now, "top": top})).one()
    groups = {group: [0, Decimal(0), 0.0] for group in RfmGroup}
    for row in await connection.execute(_GROUPS):
        figures = groups[scores(row.rfm).group]
        for place, value in enumerate((row.customers, row.spent, float(row.value))):
            figures[place] += value
    groups[RfmGroup.PROSPECTS][0] = int((await connection.execute(_PROSPECTS)).scalar_one())
    return {
        "top": top,
        "lists": {
            name: [getattr(counts, name), float(getattr(counts, f"{name}_value"))]
            for name in CONDITIONS
        },
        "groups": {group: [n, str(spent), value] for group, (n, spent, value) in groups.items()},
    }


def _overview(as_of: datetime, answer: dict[str, Any]) -> Overview:
    return Overview(
        as_of,
        answer["top"],
        {WorkList(name): Listed(*figures) for name, figures in answer["lists"].items()},
        {
            RfmGroup(name): GroupFigures(n, Decimal(spent), value)
            for name, (n, spent, value) in answer["groups"].items()
        },
    )


_IS_ON = {name: f"{condition} AND NOT {_RESTING}" for name, condition in CONDITIONS.items()}
# One look at everybody finds the page and the number of all.
_PAGE = {
    name: text(f"""
WITH {later_sql(_THEN)},
listed AS MATERIALIZED (
  SELECT o.customer_id, o.value FROM {_JOINED} WHERE {_IS_ON[name]}
),
page AS (
  SELECT customer_id FROM listed ORDER BY value DESC, customer_id DESC LIMIT :most OFFSET :skip
)
SELECT total, c.id, c.name, c.email, c.phone, c.email_opt_in, c.sms_opt_in, c.segment,
  c.segment_manual, c.total_orders, c.total_spent, c.last_order_date, o.chance, o.orders, o.value,
  o.expected_on, o.overdue_on
FROM (SELECT count(*) AS total FROM listed) counted
LEFT JOIN (page JOIN customer_outlook o USING (customer_id) JOIN customers c ON c.id = customer_id)
  ON true
ORDER BY o.value DESC, c.id DESC
""")
    for name in WorkList
}


class Members(NamedTuple):
    """A page of a work list, those of whom most is expected first."""

    rows: Sequence[Row[Any]]
    total: int


async def members(
    connection: AsyncConnection, name: WorkList, now: datetime, top: float, most: int, skip: int = 0
) -> Members:
    """Return the customers of a list. ``top`` is that of `Overview`."""
    rows = (
        await connection.execute(_PAGE[name], {"now": now, "top": top, "most": most, "skip": skip})
    ).all()
    return Members([row for row in rows if row.id is not None], rows[0].total)


def chosen_sql(name: WorkList) -> str:
    """Return a query for the ids of the customers of a list, in a random order."""
    return f"""
WITH {later_sql(_THEN)}
SELECT c.id, row_number() OVER (ORDER BY random()) AS place, count(*) OVER () AS customers
FROM {_JOINED} WHERE {_IS_ON[name]}"""
