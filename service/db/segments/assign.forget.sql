-- Delete a customer and subtract them from the counters of their segment and of the day.
-- The history of their segments stays: subscribers have seen it, and it holds no personal data.
-- One statement: the counters need the very row that is deleted.
WITH gone AS (DELETE FROM customers WHERE id = :id RETURNING *),
search_rows AS (DELETE FROM customer_search WHERE customer_id = :id),
outlook_rows AS (DELETE FROM customer_outlook WHERE customer_id = :id),
contact_rows AS (DELETE FROM contacts WHERE customer_id = :id),
slot AS MATERIALIZED (  -- locks in one order, so that two writers of a slot cannot deadlock
  SELECT k.slot, k.segment FROM segment_counters k
  WHERE k.slot = pg_backend_pid() % 8
  ORDER BY k.segment FOR NO KEY UPDATE
),
subtracted AS (
  UPDATE segment_counters k SET
    customers = k.customers - 1, total_spent = k.total_spent - gone.total_spent,
    with_orders = k.with_orders - CAST(gone.total_orders >= 1 AS integer),
    repeat_customers = k.repeat_customers - CAST(gone.total_orders >= 2 AS integer)
  FROM gone JOIN slot s USING (segment)
  WHERE k.slot = s.slot AND k.segment = s.segment
  RETURNING k.slot, k.segment, new.customers - old.customers AS customers,
      new.total_spent - old.total_spent AS total_spent,
      new.with_orders - old.with_orders AS with_orders,
      new.repeat_customers - old.repeat_customers AS repeat_customers,
    gone.date_created AS at
),
changed AS (
  INSERT INTO daily_changes AS d (day, slot, segment, customers, total_spent, with_orders,
      repeat_customers)
  SELECT CAST(clock_timestamp() AT TIME ZONE g.time_zone AS date), slot + 16 * g.generation,
      segment, customers, total_spent, with_orders, repeat_customers
  FROM subtracted CROSS JOIN daily_generations g
  ORDER BY g.generation, segment
  ON CONFLICT (day, slot, segment) DO UPDATE SET customers = d.customers + excluded.customers,
      total_spent = d.total_spent + excluded.total_spent,
      with_orders = d.with_orders + excluded.with_orders,
      repeat_customers = d.repeat_customers + excluded.repeat_customers
)
INSERT INTO daily_totals AS t (day, slot, created, orders, revenue)
SELECT CAST(at AT TIME ZONE g.time_zone AS date) AS day,
    (SELECT min(slot) FROM slot) + 16 * g.generation, sum(created) AS created,
    sum(orders) AS orders, sum(revenue) AS revenue
FROM (SELECT at, -1 AS created, 0 AS orders, 0.00 AS revenue FROM subtracted) dated
    CROSS JOIN daily_generations g
GROUP BY g.generation, day
HAVING sum(created) <> 0 OR sum(orders) <> 0 OR sum(revenue) <> 0
ORDER BY g.generation, day
ON CONFLICT (day, slot) DO UPDATE SET created = t.created + excluded.created,
    orders = t.orders + excluded.orders, revenue = t.revenue + excluded.revenue
