"""Orders and customers: metrics (1) and a rebuild from the stored orders (8)."""

from sqlalchemy import text

from service.db.figures import FIGURES, each_figure, recounted
from service.db.operations.verify.findings import REBUILD, REPLAY, RESTORE, Check
from service.db.segments.order_metrics import ORDER_METRICS
from service.db.segments.recount import MISCOUNTED as MISCOUNTED_SQL

_METRICS = text(f"""
WITH aggregate AS (
  SELECT customer_id, {ORDER_METRICS}
  FROM orders WHERE customer_id IS NOT NULL GROUP BY customer_id
)
SELECT c.id AS customer, c.total_orders, a.total_orders AS orders, c.total_spent,
       a.total_spent AS spent, c.first_order_date, a.first_order_date AS first,
       c.last_order_date, a.last_order_date AS last
FROM customers c LEFT JOIN aggregate a ON a.customer_id = c.id
WHERE c.total_orders <> coalesce(a.total_orders, 0)
   OR c.total_spent <> coalesce(a.total_spent, 0)
   OR c.first_order_date IS DISTINCT FROM a.first_order_date
   OR c.last_order_date IS DISTINCT FROM a.last_order_date
LIMIT :most
""")
MISCOUNTED = text(f"{MISCOUNTED_SQL} LIMIT :most")
DANGLING = text("""
SELECT o.customer_id AS customer, count(*) AS orders, min(o.id) AS first_order
FROM orders o LEFT JOIN customers c ON c.id = o.customer_id
WHERE o.customer_id IS NOT NULL AND c.id IS NULL
GROUP BY o.customer_id LIMIT :most
""")
# An erasure leaves the key of the event that named the person. The key of the state belongs to the
# greatest event of all, so no event that named somebody is greater. Staff who assign an order by
# hand outrank all events: the time of their key is infinity.
_NAMED = text("""
SELECT id AS order, customer_id AS customer, erased, named_version, named_at
FROM orders
WHERE num_nulls(named_version, named_at, named_event_id) NOT IN (0, 3)
   OR (customer_id IS NOT NULL OR identifier IS NOT NULL) AND named_at IS NULL
   OR NOT erased AND (customer_id IS NULL AND identifier IS NULL AND named_at IS NOT NULL
                      OR named_at < 'infinity'
                         AND (named_version, named_at, coalesce(named_sent_at, named_at),
                              named_event_id)
                           > (version, updated_at, coalesce(sent_at, updated_at), event_id))
LIMIT :most
""")
# Entries dated more than a day ahead are refused. Such an order would not take any later event.
_AHEAD = text("""
SELECT id AS order, updated_at, date_created FROM orders
WHERE GREATEST(updated_at, nullif(named_at, 'infinity'), date_created)
      > CAST(:now AS timestamptz) + interval '2 days'
LIMIT :most
""")

METRICS = (
    Check("a customer's figures are not those of their orders", REBUILD, _METRICS),
    Check("an order counts, or does not, against the settings", REBUILD, MISCOUNTED),
    Check("an order belongs to a customer who does not exist", REBUILD, DANGLING),
    Check(
        "an order's customer and the key of the event that named them contradict each other",
        REPLAY,
        _NAMED,
    ),
    Check("an order is dated in the future, which no event may be", RESTORE, _AHEAD),
)

_REBUILT_FIGURES = text(f"""
WITH aggregate AS (
  SELECT customer_id, {ORDER_METRICS}
  FROM orders WHERE customer_id IS NOT NULL GROUP BY customer_id
),
rebuilt AS (
  SELECT c.segment, coalesce(a.total_orders, 0) AS total_orders,
         coalesce(a.total_spent, 0) AS total_spent
  FROM customers c LEFT JOIN aggregate a ON a.customer_id = c.id
),
figures AS (
  SELECT segment, {", ".join(f"{recounted(figure)} AS {figure}" for figure in FIGURES)}
  FROM rebuilt GROUP BY segment
),
counters AS (
  SELECT segment, {each_figure("sum({figure}) AS {figure}")}
  FROM segment_counters GROUP BY segment HAVING sum(customers) <> 0
)
(SELECT 'rebuilt' AS side, * FROM figures EXCEPT ALL SELECT 'rebuilt', * FROM counters)
UNION ALL
(SELECT 'kept', * FROM counters EXCEPT ALL SELECT 'kept', * FROM figures)
""")

FIGURES_REBUILT = (
    Check("the counters are not what the stored orders give", REBUILD, _REBUILT_FIGURES),
)
