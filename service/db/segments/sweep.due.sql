-- Find customers whom time has moved since the last sweep, in the order of the moments.
-- Indexes find aged orders and ended holds, so the cost depends on how many customers are due.
-- One statement: it stops probing customers as soon as there are enough for one transaction.
WITH
limits AS (
  SELECT version, auto_segmentation, precedence,
    1 AS new_order_count, vip_order_count, vip_total_spent,
    CAST(:now AS timestamptz) - at_risk_days * interval '24 hours' AS at_risk_before,
    CAST(:now AS timestamptz) - inactive_days * interval '24 hours' AS inactive_before
  FROM settings ORDER BY version DESC LIMIT 1
),
due AS (
  SELECT o.customer_id, o.date_created + (CAST(:now AS timestamptz) - l.at_risk_before) AS moment
  FROM limits l JOIN orders o
  ON o.counts AND o.date_created <= l.at_risk_before
    AND o.date_created > l.at_risk_before - CAST(:window AS interval)
  WHERE o.customer_id IS NOT NULL
  UNION ALL
  SELECT o.customer_id, o.date_created + (CAST(:now AS timestamptz) - l.inactive_before) AS moment
  FROM limits l JOIN orders o
  ON o.counts AND o.date_created <= l.inactive_before
    AND o.date_created > l.inactive_before - CAST(:window AS interval)
  WHERE o.customer_id IS NOT NULL
  UNION ALL
  SELECT id, segment_pinned_until FROM customers
  WHERE segment_pinned_until <= CAST(:now AS timestamptz)
)
SELECT c.id, due.moment
FROM (SELECT * FROM due ORDER BY moment OFFSET 0) due CROSS JOIN limits l
-- One index probe for each, until there are enough. The planner does not know how many are due, so
-- without OFFSET 0 it would read all customers.
CROSS JOIN LATERAL (SELECT * FROM customers WHERE id = due.customer_id OFFSET 0) c
WHERE c.segment_sequence > 0
  AND CASE WHEN c.segment_manual
    THEN (NOT c.segment_pinned
    AND coalesce(c.segment_pinned_until <= CAST(:now AS timestamptz),
    CAST(NULL AS timestamptz) > c.segment_held_since, false))
  ELSE l.auto_segmentation AND CASE l.precedence
    WHEN 'recency_first' THEN
      CASE
      WHEN (c.last_order_date <= l.inactive_before) THEN 'inactive'
      WHEN (c.last_order_date <= l.at_risk_before) THEN 'at_risk'
      WHEN (c.total_orders >= l.vip_order_count OR c.total_spent >= l.vip_total_spent) THEN 'vip'
      WHEN (c.total_orders <= l.new_order_count) THEN 'new'
      ELSE 'returning'
    END
    WHEN 'value_first' THEN
      CASE
      WHEN (c.total_orders <= l.new_order_count) THEN 'new'
      WHEN (c.total_orders >= l.vip_order_count OR c.total_spent >= l.vip_total_spent) THEN 'vip'
      WHEN (c.last_order_date <= l.inactive_before) THEN 'inactive'
      WHEN (c.last_order_date <= l.at_risk_before) THEN 'at_risk'
      ELSE 'returning'
    END
  END <> c.segment
END
ORDER BY due.moment LIMIT :most
