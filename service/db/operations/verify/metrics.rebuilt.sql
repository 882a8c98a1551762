-- Find figures per segment that differ from a recount of the orders (invariant 8).
-- It returns recounted and stored rows that have no equal row on the other side.
-- One statement: both sides come from the same snapshot.
WITH aggregate AS (
  SELECT customer_id,
    CAST(count(*) FILTER (WHERE counts) AS integer) AS total_orders,
    coalesce(sum(net) FILTER (WHERE counts), 0.00) AS total_spent,
    min(date_created) FILTER (WHERE counts) AS first_order_date,
    max(date_created) FILTER (WHERE counts) AS last_order_date,
    max(date_created) AS newest_order
  FROM orders WHERE customer_id IS NOT NULL GROUP BY customer_id
),
rebuilt AS (
  SELECT c.segment, coalesce(a.total_orders, 0) AS total_orders,
    coalesce(a.total_spent, 0) AS total_spent
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
