"""Figures of freely chosen spans of time, added up from what workers keep of everybody.

In a large shop, a year has half a million customers and millions of orders: too many to read while
somebody waits. No sum by day gives their median, or says how many of them ordered in the year. So a
worker keeps two tables, as of one moment, and renews them like other slow answers (`answer_cache`):

* `span_customers` has a row for all customers of one segment, one number of orders and about the
  same total spent. It holds when they were created, in order, and what they had spent together up
  to each of them. A binary search in each row counts the customers of any span and adds up what
  they spent. Because the rows are ordered by amounts, it also finds the row that holds the median.
* `span_orders` has a row for each day of the store. It counts the day's orders by when the same
  customer had ordered before. A customer's first order within a span is the one whose earlier order
  lies before the span, so these orders are as many as the customers who ordered.

Small spans are read from the customers and orders themselves, as they are now.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.segment_rules import KNOWN_SEGMENTS, Segment
from service.core.store_days import beginning_of, day_of
from service.core.time_zones import zone_of
from service.db.figures import NOTHING, Figures, SegmentFigures
from service.db.statistics.answer_cache import recall
from service.db.statistics.counters import Medians, Window, rounded
from service.db.statistics.generations import READ
from service.db.store_clock import read_store_clock

CACHE_NAME = "spans of time"
"""The time that the tables are from is cached under this name, and the zone of their days."""

FEW = 100_000
"""So many customers and orders are quick to read while somebody waits."""

# Each bucket of amounts is 2 % wide. A narrower one makes more rows, a wider one longer ones.
_BUCKET = "CAST(floor(50 * ln(1 + CAST(total_spent AS double precision))) AS integer)"
_CUSTOMERS = f"""
  SELECT segment, orders, bucket, array_agg(date_created ORDER BY date_created) AS created,
         array_agg(so_far ORDER BY date_created) AS spent
  FROM (
    SELECT segment, orders, bucket, date_created, CAST(sum(cents) OVER (
             PARTITION BY segment, orders, bucket ORDER BY date_created ROWS UNBOUNDED PRECEDING
           ) AS bigint) AS so_far
    FROM (
      SELECT segment, CAST(LEAST(total_orders, 2) AS smallint) AS orders, {_BUCKET} AS bucket,
             date_created, CAST(total_spent * 100 AS bigint) AS cents
      FROM customers
    ) each
  ) added_up GROUP BY segment, orders, bucket"""
_DAY = "CAST(:first AS date) + width_bucket(date_created, CAST(:begins AS timestamptz[])) - 1"
_ORDERS = f"""
  SELECT day, CAST(sum(unattributed) AS bigint) AS unattributed,
         coalesce(array_agg(earlier ORDER BY earlier) FILTER (WHERE earlier IS NOT NULL), '{{}}')
           AS earlier,
         coalesce(array_agg(so_far ORDER BY earlier) FILTER (WHERE earlier IS NOT NULL), '{{}}')
           AS orders
  FROM (
    SELECT day, 0 AS unattributed, earlier,
           CAST(sum(count(*)) OVER (PARTITION BY day ORDER BY earlier) AS bigint) AS so_far
    FROM (
      SELECT day, lag(day, 1, '-infinity') OVER (PARTITION BY customer_id ORDER BY day) AS earlier
      FROM (
        SELECT customer_id, {_DAY} AS day FROM orders WHERE counts AND customer_id IS NOT NULL
      ) placed
    ) pairs GROUP BY day, earlier
    UNION ALL
    SELECT {_DAY}, count(*), NULL, NULL
    FROM orders WHERE customer_id IS NULL AND NOT erased GROUP BY 1
  ) both_kinds GROUP BY day"""
# One statement, so that both tables are of one snapshot. What has not changed is not written.
_KEEP = text(f"""
WITH kept_customers AS (
  MERGE INTO span_customers k USING ({_CUSTOMERS}) n
  ON k.segment = n.segment AND k.orders = n.orders AND k.bucket = n.bucket
  WHEN MATCHED AND (k.created, k.spent) IS DISTINCT FROM (n.created, n.spent)
    THEN UPDATE SET created = n.created, spent = n.spent
  WHEN NOT MATCHED BY SOURCE THEN DELETE
  WHEN NOT MATCHED THEN INSERT (segment, orders, bucket, created, spent)
    VALUES (n.segment, n.orders, n.bucket, n.created, n.spent)
)
MERGE INTO span_orders k USING ({_ORDERS}) n ON k.day = n.day
WHEN MATCHED AND (k.unattributed, k.earlier, k.orders)
    IS DISTINCT FROM (n.unattributed, n.earlier, n.orders)
  THEN UPDATE SET unattributed = n.unattributed, earlier = n.earlier, orders = n.orders
WHEN NOT MATCHED BY SOURCE THEN DELETE
WHEN NOT MATCHED THEN INSERT (day, unattributed, earlier, orders)
  VALUES (n.day, n.unattributed, n.earlier, n.orders)
""")
_EMPTY = [text(f"DELETE FROM {table}") for table in ("span_customers", "span_orders")]
# Sums of cents have to fit into 64 bits.
_SHOP = text("""
SELECT (SELECT sum(total_spent) < 1e16 FROM segment_counters) AS fits,
       (SELECT min(date_created) FROM orders) AS first,
       (SELECT max(date_created) FROM orders) AS last
""")
_SIZE = text(f"""
SELECT coalesce(sum(created + orders), 0) FROM daily_totals
WHERE {READ} AND day BETWEEN :first AND :last
""")
# Moments have microseconds. So those up to the last one before a moment are those before it.
_POSITIONS = """
  SELECT *, width_bucket(CAST(:start AS timestamptz) - interval '1 microsecond', created) AS since,
         width_bucket(CAST(:end AS timestamptz) - interval '1 microsecond', created) AS until
  FROM span_customers"""
_IN_SPAN = text(f"""
SELECT segment, orders, bucket, until - since AS customers,
       coalesce(spent[until], 0) - coalesce(spent[since], 0) AS cents
FROM ({_POSITIONS} OFFSET 0) k WHERE until > since ORDER BY bucket
""")
_AT_RANKS = text(f"""
SELECT (
  SELECT cents FROM ({_POSITIONS}
    WHERE bucket = w.bucket AND (w.segment = '' OR segment = w.segment) OFFSET 0
  ) k CROSS JOIN LATERAL (
    SELECT so_far - lag(so_far, 1, coalesce(k.spent[k.since], 0)) OVER (ORDER BY place) AS cents
    FROM unnest(k.spent[k.since + 1:k.until]) WITH ORDINALITY u(so_far, place)
  ) each ORDER BY cents OFFSET w.rank LIMIT 1
) AS cents
FROM unnest(CAST(:segments AS text[]), CAST(:buckets AS integer[]), CAST(:ranks AS bigint[]))
     WITH ORDINALITY w(segment, bucket, rank, place) ORDER BY place
""")


def _earlier_than(day: str) -> str:
    """Return how many orders of a row follow an order from before ``day``, or none."""
    return f"coalesce(orders[width_bucket(CAST(:{day} AS date) - 1, earlier)], 0)"


_RETURNS = text(f"""
SELECT CAST(coalesce(sum(unattributed) FILTER (WHERE inside), 0) AS bigint) AS unattributed,
       CAST(coalesce(sum(first_inside) FILTER (WHERE inside), 0) AS bigint) AS ordered,
       CAST(coalesce(sum(first_of_both) FILTER (WHERE NOT inside), 0) AS bigint)
         AS ordered_before,
       CAST(coalesce(sum(first_inside - first_of_both) FILTER (WHERE inside), 0) AS bigint)
         AS stayed
FROM (
  SELECT unattributed, day >= :first AS inside, {_earlier_than("first")} AS first_inside,
         {_earlier_than("before")} AS first_of_both
  FROM span_orders WHERE day >= :before AND day < :end
) days
""")


_FIRST_AND_LAST = text("SELECT min(day), max(day) FROM span_orders")


class Kept(NamedTuple):
    """Where the kept tables come from."""

    as_of: datetime
    zone: ZoneInfo
    """The time zone whose days `span_orders` has."""


class SpanFigures(NamedTuple):
    """Sums and medians per segment of the customers created in a span."""

    figures: Figures
    medians: Medians


class Returns(NamedTuple):
    """How many customers ordered in a span, and in the span before it."""

    unattributed: int
    """Orders of the span that name nobody."""
    ordered: int
    """Customers who ordered in the span."""
    ordered_before: int
    """Customers who ordered in the span before it."""
    stayed: int
    """Customers who ordered in both."""


async def compute(connection: AsyncConnection, _now: datetime) -> dict[str, str] | None:
    """Renew the tables, and return what `CACHE_NAME` stands for. A small shop keeps nothing.

    The caller commits.
    """
    shop = (await connection.execute(_SHOP)).one()
    size = 0 if shop.first is None else await _size(connection, shop.first, shop.last)
    if size <= FEW or not shop.fits:
        for statement in _EMPTY:
            await connection.execute(statement)
        return None
    zone = (await read_store_clock(connection)).zone
    first = day_of(shop.first, zone)
    days = (day_of(shop.last, zone) - first).days + 1
    begins = [beginning_of(first + timedelta(days=n), zone) for n in range(days)]
    await connection.execute(_KEEP, {"first": first, "begins": begins})
    return {"zone": zone.key}


async def kept_for(connection: AsyncConnection, window: Window) -> Kept | None:
    """Return where the kept tables come from. None if ``window`` is quick to read without them."""
    kept = await recall(connection, CACHE_NAME)
    if kept is None or kept.answer is None:
        return None
    if await _size(connection, window.before.start, window.end) <= FEW:
        return None
    return Kept(kept.as_of, zone_of(kept.answer["zone"]))


async def _size(connection: AsyncConnection, start: datetime, end: datetime) -> int:
    """Return about how many customers and orders are dated between two moments."""
    days = {"first": start.astimezone(UTC).date(), "last": end.astimezone(UTC).date()}
    return int((await connection.execute(_SIZE, days)).scalar_one())


async def read_kept_sums(connection: AsyncConnection, window: Window) -> Figures:
    """Return the sums per segment of the customers created in a window."""
    return _sums(await _in_span(connection, window))


async def read_kept_figures(connection: AsyncConnection, window: Window) -> SpanFigures:
    """Return the sums and medians per segment of the customers created in a window."""
    rows = await _in_span(connection, window)
    counts: dict[Segment | None, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for row in rows:
        counts[None][row.bucket] += row.customers
        if row.segment in KNOWN_SEGMENTS:
            counts[Segment(row.segment)][row.bucket] += row.customers
    wanted = [(group, *place) for group in counts for place in _middle(counts[group])]
    ranks = {
        "start": window.start,
        "end": window.end,
        "segments": [group or "" for group, _, _ in wanted],
        "buckets": [bucket for _, bucket, _ in wanted],
        "ranks": [rank for _, _, rank in wanted],
    }
    cents = (await connection.execute(_AT_RANKS, ranks)).scalars().all()
    medians: Medians = dict.fromkeys(counts, Decimal(0))
    for (group, _, _), amount in zip(wanted, cents, strict=True):
        medians[group] += Decimal(amount) / 200
    return SpanFigures(_sums(rows), {group: rounded(each) for group, each in medians.items()})


async def _in_span(connection: AsyncConnection, window: Window) -> Sequence[Row[Any]]:
    """Return how many customers of each kept row were created in a window, and what they spent."""
    moments = {"start": window.start, "end": window.end}
    return (await connection.execute(_IN_SPAN, moments)).all()


def _sums(rows: Iterable[Row[Any]]) -> Figures:
    figures = dict.fromkeys(Segment, NOTHING)
    for row in rows:
        if row.segment in KNOWN_SEGMENTS:
            segment = Segment(row.segment)
            figures[segment] = _with(figures[segment], row)
    return figures


def _with(figures: SegmentFigures, row: Any) -> SegmentFigures:
    """Return the figures of a segment with the customers of one more row."""
    return SegmentFigures(
        customers=figures.customers + row.customers,
        total_spent=figures.total_spent + Decimal(row.cents) / 100,
        with_orders=figures.with_orders + (row.customers if row.orders >= 1 else 0),
        repeat_customers=figures.repeat_customers + (row.customers if row.orders > 1 else 0),
    )


def _middle(counts: dict[int, int]) -> Iterator[tuple[int, int]]:
    """Yield the places of the two middle amounts, which may be the same: bucket, rank in it.

    ``counts`` has how many amounts each bucket holds, in the order of the buckets.
    """
    total = sum(counts.values())
    for rank in ((total - 1) // 2, total // 2):
        left = rank
        for bucket, count in counts.items():
            if left < count:
                yield bucket, left
                break
            left -= count


async def read_kept_returns(
    connection: AsyncConnection, window: Window, zone: ZoneInfo
) -> Returns | None:
    """Return how many customers ordered in a window and before it.

    None if the window, or the one before it, begins or ends within a day of ``zone`` that has
    orders.
    """
    first, last = (await connection.execute(_FIRST_AND_LAST)).one()
    moments = (window.before.start, window.start, window.end)
    days = [day_of(moment, zone) for moment in moments]
    for day, moment in zip(days, moments, strict=True):
        if first and first <= day <= last and beginning_of(day, zone) != moment:
            return None
    parameters = dict(zip(("before", "first", "end"), days, strict=True))
    return Returns(*(await connection.execute(_RETURNS, parameters)).one())
