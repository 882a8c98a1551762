-- Show which customers would be in which segment if proposed settings were saved, with what figures.
-- A relation named settings hides the table, so the rest is the code that applies stored settings.
-- One statement: counts and examples come from the same snapshot.
WITH
settings AS (
  SELECT 0 AS version, CAST(:vip_order_count AS INTEGER) AS vip_order_count,
      CAST(:vip_total_spent AS NUMERIC(14, 2)) AS vip_total_spent,
      CAST(:at_risk_days AS INTEGER) AS at_risk_days,
      CAST(:inactive_days AS INTEGER) AS inactive_days,
      CAST(:auto_segmentation AS BOOLEAN) AS auto_segmentation,
      CAST(:precedence AS TEXT) AS precedence, CAST(:count_from AS TEXT) AS count_from,
      CAST(:count_free_orders AS BOOLEAN) AS count_free_orders,
      CAST(:time_zone AS TEXT) AS time_zone
),
counting AS MATERIALIZED (SELECT count_from, count_free_orders FROM settings),
changes AS MATERIALIZED (
  SELECT customer_id, sum(CASE WHEN counts THEN -1 ELSE 1 END) AS orders,
    sum(CASE WHEN counts THEN -net ELSE net END) AS spent,
    max(date_created) FILTER (WHERE NOT counts) AS gained,
    max(date_created) FILTER (WHERE counts) AS lost
  FROM (
    SELECT customer_id, counts, net, date_created FROM orders CROSS JOIN counting
    WHERE customer_id IS NOT NULL
    AND counts <> NOT ((status = 'cancelled') OR (coalesce(payment_status = 'failed', false))
    OR (CASE WHEN total > 0 THEN refunded >= total OR refunded = 0
    AND (status = 'refunded' OR coalesce(payment_status = 'refunded', false))
    ELSE (status = 'refunded' OR coalesce(payment_status = 'refunded', false)) END)
    OR (counting.count_from = 'paid'
    AND coalesce(payment_status NOT IN ('paid', 'partially_refunded', 'refunded'), true))
    OR (total = 0 AND NOT counting.count_free_orders)) OFFSET 0
  ) o
  GROUP BY customer_id
),
after AS (
  SELECT c.id, c.segment, c.segment_manual, c.segment_pinned, c.segment_pinned_until,
    c.segment_held_since, CAST(NULL AS timestamptz) AS newest_order,
    a.customer_id IS NOT NULL AS recounted,
    c.total_orders AS stored_orders, c.total_spent AS stored_spent,
    c.total_orders + coalesce(a.orders, 0) AS total_orders,
    c.total_spent + coalesce(a.spent, 0) AS total_spent,
    GREATEST(a.gained, CASE WHEN a.lost >= c.last_order_date THEN (
        SELECT max(date_created) FROM orders CROSS JOIN counting
        WHERE customer_id = c.id AND counts
        AND NOT ((status = 'cancelled') OR (coalesce(payment_status = 'failed', false))
        OR (CASE WHEN total > 0 THEN refunded >= total OR refunded = 0
        AND (status = 'refunded' OR coalesce(payment_status = 'refunded', false))
        ELSE (status = 'refunded' OR coalesce(payment_status = 'refunded', false)) END)
        OR (counting.count_from = 'paid'
        AND coalesce(payment_status NOT IN ('paid', 'partially_refunded', 'refunded'), true))
        OR (total = 0 AND NOT counting.count_free_orders)))
      ELSE c.last_order_date END) AS last_order_date
  FROM customers c LEFT JOIN changes a ON a.customer_id = c.id OFFSET 0
),
limits AS (
  SELECT version, auto_segmentation, precedence,
    1 AS new_order_count, vip_order_count, vip_total_spent,
    CAST(:now AS timestamptz) - at_risk_days * interval '24 hours' AS at_risk_before,
    CAST(:now AS timestamptz) - inactive_days * interval '24 hours' AS inactive_before
  FROM settings ORDER BY version DESC LIMIT 1
),
judged AS (
  SELECT a.*, h.held,
    CASE WHEN h.held OR NOT l.auto_segmentation THEN a.segment
    ELSE CASE l.precedence
      WHEN 'recency_first' THEN
        CASE
        WHEN (a.last_order_date <= l.inactive_before) THEN 'inactive'
        WHEN (a.last_order_date <= l.at_risk_before) THEN 'at_risk'
        WHEN (a.total_orders >= l.vip_order_count OR a.total_spent >= l.vip_total_spent) THEN 'vip'
        WHEN (a.total_orders <= l.new_order_count) THEN 'new'
        ELSE 'returning'
      END
      WHEN 'value_first' THEN
        CASE
        WHEN (a.total_orders <= l.new_order_count) THEN 'new'
        WHEN (a.total_orders >= l.vip_order_count OR a.total_spent >= l.vip_total_spent) THEN 'vip'
        WHEN (a.last_order_date <= l.inactive_before) THEN 'inactive'
        WHEN (a.last_order_date <= l.at_risk_before) THEN 'at_risk'
        ELSE 'returning'
      END
    END
  END AS judged_segment
  FROM after a CROSS JOIN limits l CROSS JOIN LATERAL (
    SELECT a.segment_manual
      AND NOT (NOT a.segment_pinned
      AND coalesce(a.segment_pinned_until <= CAST(:now AS timestamptz),
      a.newest_order > a.segment_held_since, false)) AS held
  ) h
),
cells AS (
  SELECT segment, judged_segment, count(*) AS customers, array_agg(id) AS ids,
    count(*) FILTER (WHERE recounted) AS recounted,
    sum(stored_orders) AS orders_before, sum(total_orders) AS orders_after,
    sum(stored_spent) AS revenue_before, sum(total_spent) AS revenue_after
  FROM judged GROUP BY segment, judged_segment
)
SELECT cells.segment AS previous, cells.judged_segment AS segment, cells.customers,
  cells.recounted, cells.orders_before, cells.orders_after, cells.revenue_before,
  cells.revenue_after, c.id, c.name,
  c.total_orders + coalesce(a.orders, 0) AS total_orders,
  c.total_spent + coalesce(a.spent, 0) AS total_spent,
  GREATEST(a.gained, CASE WHEN a.lost >= c.last_order_date THEN (
      SELECT max(date_created) FROM orders CROSS JOIN counting
      WHERE customer_id = c.id AND counts
      AND NOT ((status = 'cancelled') OR (coalesce(payment_status = 'failed', false))
      OR (CASE WHEN total > 0 THEN refunded >= total OR refunded = 0
      AND (status = 'refunded' OR coalesce(payment_status = 'refunded', false))
      ELSE (status = 'refunded' OR coalesce(payment_status = 'refunded', false)) END)
      OR (counting.count_from = 'paid'
      AND coalesce(payment_status NOT IN ('paid', 'partially_refunded', 'refunded'), true))
      OR (total = 0 AND NOT counting.count_free_orders)))
    ELSE c.last_order_date END) AS last_order_date
FROM cells
CROSS JOIN LATERAL (SELECT i.id FROM unnest(cells.ids) AS i(id) ORDER BY i.id LIMIT :sample) f
CROSS JOIN LATERAL (SELECT * FROM customers WHERE id = f.id OFFSET 0) c
LEFT JOIN changes a ON a.customer_id = c.id
ORDER BY c.id
