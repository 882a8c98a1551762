"""Fill a large shop at once: the database itself writes customers, orders, history and counters.

The numbers are the same on every machine. Customers come at a steady rate over two years, orders
are stored in the order in which they were placed, each customer has two identifiers, and all
derived values are right: `verify` only reports that Redis never had the out-stream.
"""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.counting import CountFrom
from service.db.counting import counts_sql
from service.db.engine import create_patient_engine
from service.db.search_text import search_text
from service.db.segments.rules_sql import LIMITS, segment_sql

_YEARS = "interval '730 days'"
_FIRST_NAMES = "ARRAY['Jane', 'Omar', 'Wei', 'Ingrid', 'Søren']"
_LAST_NAMES = "ARRAY['Smith', 'Okafor', 'Chen', 'Lindqvist', 'Weiß', 'Moreau', 'Haddad']"

# Those of `identifiers` stay: the text that searches read looks each customer's up.
_INDEXES = text("""
SELECT schemaname || '.' || indexname AS name, indexdef AS definition FROM pg_indexes
WHERE tablename = ANY(ARRAY['customers', 'customer_search', 'orders', 'segment_changes'])
  AND indexname NOT IN (SELECT conname FROM pg_constraint)
""")

# Multiples of the golden ratio are spread as evenly as random numbers, and always the same.
_PLACED = f"""
CREATE TEMPORARY TABLE placed AS
SELECT 1000 + c.number AS customer_id,
       c.joined + (CAST(:now AS timestamptz) - c.joined) * CASE WHEN k = 1 THEN 0 ELSE pow(
         ((c.number * 7 + k * 131) * 2654435769 % 4294967296) / CAST(4294967296 AS float8), 1.5)
       END AS date_created,
       (c.number * 31 + k * 17) % 100 AS dice,
       (c.number * 7919 + k * 104729) % 20000 + 100 AS cents
FROM (
  SELECT number, CAST(:now AS timestamptz)
    - {_YEARS} * (1 - CAST(number AS float8) / (CAST(:customers AS bigint) + 1)) AS joined
  FROM generate_series(1, CAST(:customers AS bigint)) AS number
) c
-- one to nine orders, five in the mean
CROSS JOIN LATERAL generate_series(1, 1 + c.number * 5 % 9 * CAST(:orders AS bigint)
                                      / (CAST(:customers AS bigint) * 5)) AS k
"""
_ORDERS = f"""
INSERT INTO orders (id, version, updated_at, event_id, status, payment_status, total, refunded,
                    date_created, customer_id, identifier, other_identifier,
                    named_version, named_at, named_event_id, applied_at, counts)
SELECT 'SHOP-' || place, 1, date_created, 'shop-event-' || place, status, payment_status, total,
       refunded, date_created,
       named, 'external:/shop#' || named - 1000,
       'email:customer' || named - 1000 || '@example.com', CASE WHEN named IS NOT NULL THEN 1 END,
       CASE WHEN named IS NOT NULL THEN date_created END,
       CASE WHEN named IS NOT NULL THEN 'shop-event-' || place END, date_created,
       {counts_sql(f"'{CountFrom.PLACED}'", "true")}
FROM (
  SELECT *, nullif(customer_id, 1000 + mod(place, 100000)) AS named,
    CASE WHEN dice < 6 THEN 'cancelled' WHEN dice < 12 THEN 'shipped' ELSE 'delivered' END
      AS status,
    CASE WHEN dice = 99 THEN 'failed' ELSE 'paid' END AS payment_status, cents * 0.01 AS total,
    CASE WHEN dice = 50 THEN 0.5 ELSE 0 END AS refunded
  FROM (SELECT *, row_number() OVER (ORDER BY date_created) AS place FROM placed) p
) n
ORDER BY place
"""
_CUSTOMERS = f"""
WITH {LIMITS},
bought AS (
  SELECT customer_id, count(*) FILTER (WHERE counts) AS orders,
         sum(total - refunded) FILTER (WHERE counts) AS spent,
         min(date_created) FILTER (WHERE counts) AS first,
         max(date_created) FILTER (WHERE counts) AS last, min(date_created) AS created
  FROM orders WHERE customer_id IS NOT NULL GROUP BY customer_id
),
facts AS (
  SELECT customer_id AS id, customer_id - 1000 AS number,
         CAST(orders AS integer) AS total_orders, coalesce(spent, 0) AS total_spent,
         first AS first_order_date, last AS last_order_date, created
  FROM bought
)
INSERT INTO customers (id, email, email_key, name, name_at, name_event, phone, phone_at,
  phone_event, address, address_at, address_event, date_created, date_updated, total_orders,
  total_spent, first_order_date, last_order_date, segment, segment_sequence)
OVERRIDING SYSTEM VALUE
SELECT f.id, e.email, e.email, n.name, created, 'shop', '555-' || mod(number, 10000), created,
       'shop', jsonb_build_object('street', mod(number, 999) || ' Main St', 'city', 'Austin',
         'state', 'TX', 'zip', '78701', 'country', 'US'), created, 'shop',
       created, coalesce(last_order_date, created), total_orders, total_spent, first_order_date,
       last_order_date, s.segment, CASE WHEN s.segment = 'new' THEN 1 ELSE 2 END
FROM facts f CROSS JOIN limits l
CROSS JOIN LATERAL (SELECT {segment_sql("f", "l")} AS segment) s
CROSS JOIN LATERAL (SELECT 'customer' || number || '@example.com' AS email) e
CROSS JOIN LATERAL (
  SELECT CASE WHEN CAST(:varied AS boolean)
    THEN ({_FIRST_NAMES})[1 + mod(number, 5)] || ' ' || ({_LAST_NAMES})[1 + mod(number / 5, 7)]
    ELSE 'Customer' END || ' ' || number AS name
) n
ORDER BY f.id
"""
_IDENTIFIERS = """
INSERT INTO identifiers (identifier, customer_id, since)
SELECT i.identifier, c.id, c.date_created FROM customers c CROSS JOIN LATERAL (
  VALUES ('external:/shop#' || c.id - 1000), ('email:' || c.email_key)
) i (identifier)
"""
_SEARCH = f"INSERT INTO customer_search SELECT id, {search_text('c')} FROM customers c ORDER BY id"
_HISTORY = """
INSERT INTO segment_changes (customer_id, sequence, previous, segment, cause, settings_version,
  total_orders, total_spent, last_order_date, changed_at, publish_number)
SELECT *, row_number() OVER (ORDER BY changed_at) FROM (
  SELECT id, 1, NULL, 'new', 'order', 1, least(total_orders, 1),
         CAST(0 AS numeric), first_order_date, date_created AS changed_at
  FROM customers
  UNION ALL
  SELECT c.id, 2, 'new', segment, CASE WHEN late > 0 THEN 'time' ELSE 'order' END, 1,
         total_orders, total_spent, last_order_date, last_order_date + late * interval '1 day'
  FROM customers c CROSS JOIN LATERAL (
    SELECT CASE segment WHEN 'at_risk' THEN 60 WHEN 'inactive' THEN 90 ELSE 0 END AS late) l
  WHERE segment <> 'new'
) h ORDER BY changed_at
"""
_KEPT = (
    """UPDATE segment_counters k SET customers = c.customers, total_spent = c.spent,
         with_orders = c.with_orders, repeat_customers = c.repeaters
       FROM (SELECT segment, count(*) AS customers, sum(total_spent) AS spent,
                    count(*) FILTER (WHERE total_orders >= 1) AS with_orders,
                    count(*) FILTER (WHERE total_orders >= 2) AS repeaters
             FROM customers GROUP BY segment) c
       WHERE k.slot = 0 AND k.segment = c.segment""",
    """INSERT INTO daily_changes
       SELECT CAST(at AT TIME ZONE 'UTC' AS date), slot, segment, sum(customers), sum(spent),
              sum(with_orders), sum(repeaters)
       FROM (
         SELECT h.changed_at AS at, c.id % 8 AS slot, h.segment, 1 AS customers,
                CASE WHEN last THEN c.total_spent ELSE 0 END AS spent,
                CAST(last AND c.total_orders >= 1 AS integer) AS with_orders,
                CAST(last AND c.total_orders >= 2 AS integer) AS repeaters
         FROM segment_changes h JOIN customers c ON c.id = h.customer_id
         CROSS JOIN LATERAL (SELECT h.sequence = c.segment_sequence AS last) l
         UNION ALL
         SELECT changed_at, customer_id % 8, previous, -1, 0, 0, 0
         FROM segment_changes WHERE previous IS NOT NULL
       ) sides GROUP BY 1, 2, 3""",
    """INSERT INTO daily_totals
       SELECT CAST(at AT TIME ZONE 'UTC' AS date), slot, sum(created), sum(orders), sum(revenue)
       FROM (
         SELECT date_created AS at, id % 8 AS slot, 1 AS created, 0 AS orders, 0.00 AS revenue
         FROM customers
         UNION ALL
         SELECT date_created, coalesce(customer_id, 0) % 8, 0, 1, total - refunded
         FROM orders WHERE counts
       ) sides GROUP BY 1, 2""",
    "SELECT setval(pg_get_serial_sequence('customers', 'id'), (SELECT max(id) FROM customers))",
    "UPDATE sweep SET swept_until = :now",
    "UPDATE relay SET (numbered, published) = (SELECT count(*), count(*) FROM segment_changes)",
)


async def populate(
    url: str, customers: int, orders: int, now: datetime, *, varied: bool = True
) -> None:
    """Fill an empty, migrated database as of a moment, as its owner; vacuum and analyse it.

    With ``varied``, names differ, for searches; otherwise they are those in the events of `load`.
    """
    numbers = {"customers": customers, "orders": orders, "now": now, "varied": varied}
    patient = create_patient_engine(url, application="crm bench")
    async with patient.begin() as connection:
        await connection.execute(text("SET LOCAL jit = off"))
        await connection.execute(text("SET LOCAL crm.identifiers = 'written'"))
        await connection.execute(text("SET LOCAL work_mem = '512MB'"))
        await connection.execute(text("SET LOCAL maintenance_work_mem = '512MB'"))
        indexes = (await connection.execute(_INDEXES)).all()
        for index in indexes:
            await connection.execute(text(f"DROP INDEX {index.name}"))
        for statement in (_PLACED, _ORDERS, _CUSTOMERS, _IDENTIFIERS, _SEARCH, _HISTORY, *_KEPT):
            await _execute(connection, statement, numbers)
        for index in indexes:
            await connection.execute(text(index.definition))
    async with patient.connect() as pooled:
        connection = await pooled.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(text("VACUUM ANALYZE"))
    await patient.dispose()


async def _execute(
    connection: AsyncConnection, statement: str, numbers: Mapping[str, object]
) -> None:
    clause = text(statement)
    wanted = {name: numbers[name] for name in clause._bindparams}
    await connection.execute(clause, wanted)
