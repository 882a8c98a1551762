-- Find figures per segment that differ from a recount of the orders (invariant 8).
-- It returns recounted and stored rows that have no equal row on the other side.
-- One statement: both sides come from the same snapshot.
WITH
aggregate AS (
  SELECT customer_id, count(*) AS orders, sum(total - refunded) AS spent,
    min(date_created) AS first, max(date_created) AS last
  FROM orders WHERE counts AND customer_id IS NOT NULL GROUP BY customer_id
),
rebuilt AS (
  SELECT c.segment, coalesce(a.orders, 0) AS total_orders, coalesce(a.spent, 0) AS total_spent
  FROM customers c LEFT JOIN aggregate a ON a.customer_id = c.id
),
figures AS (
  SELECT segment, count(*) AS customers, sum(total_spent) AS total_spent,
      count(*) FILTER (WHERE total_orders >= 1) AS with_orders,
      count(*) FILTER (WHERE total_orders >= 2) AS repeat_customers
  FROM rebuilt GROUP BY segment
),
counters AS (
  SELECT segment, sum(customers) AS customers, sum(total_spent) AS total_spent,
      sum(with_orders) AS with_orders, sum(repeat_customers) AS repeat_customers
  FROM segment_counters GROUP BY segment HAVING sum(customers) <> 0
)
(SELECT 'rebuilt' AS side, * FROM figures EXCEPT ALL SELECT 'rebuilt', * FROM counters)
UNION ALL
(SELECT 'kept', * FROM counters EXCEPT ALL SELECT 'kept', * FROM figures)
