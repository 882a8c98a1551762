-- Find customers whose segment is not what rules and holds give now (invariant 4).
-- The sweep may be late by its promise, and new settings may not have reached everybody yet.
-- One statement: customers and settings come from the same snapshot.
WITH
limits AS (
  SELECT version, auto_segmentation, precedence,
    1 AS new_order_count, vip_order_count, vip_total_spent,
    CAST(:now AS timestamptz) - at_risk_days * interval '24 hours' AS at_risk_before,
    CAST(:now AS timestamptz) - inactive_days * interval '24 hours' AS inactive_before
  FROM settings ORDER BY version DESC LIMIT 1
),
promised AS (
  SELECT version, auto_segmentation, precedence, new_order_count, vip_order_count, vip_total_spent,
      at_risk_before - CAST(:promise AS interval) AS at_risk_before,
      inactive_before - CAST(:promise AS interval) AS inactive_before
  FROM limits
)
SELECT c.id AS customer, c.segment, CASE l.precedence
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
END AS by_rules, c.segment_manual
FROM customers c CROSS JOIN limits l CROSS JOIN promised p
WHERE CASE WHEN c.segment_manual
    THEN (NOT c.segment_pinned
    AND coalesce(c.segment_pinned_until <= CAST(:now AS timestamptz) - CAST(:promise AS interval),
    (SELECT max(o.date_created) FROM orders o
        WHERE o.customer_id = c.id
        AND o.date_created > c.segment_held_since) > c.segment_held_since, false))
  ELSE l.auto_segmentation
    AND CASE l.precedence
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
    AND CASE p.precedence
    WHEN 'recency_first' THEN
      CASE
      WHEN (c.last_order_date <= p.inactive_before) THEN 'inactive'
      WHEN (c.last_order_date <= p.at_risk_before) THEN 'at_risk'
      WHEN (c.total_orders >= p.vip_order_count OR c.total_spent >= p.vip_total_spent) THEN 'vip'
      WHEN (c.total_orders <= p.new_order_count) THEN 'new'
      ELSE 'returning'
    END
    WHEN 'value_first' THEN
      CASE
      WHEN (c.total_orders <= p.new_order_count) THEN 'new'
      WHEN (c.total_orders >= p.vip_order_count OR c.total_spent >= p.vip_total_spent) THEN 'vip'
      WHEN (c.last_order_date <= p.inactive_before) THEN 'inactive'
      WHEN (c.last_order_date <= p.at_risk_before) THEN 'at_risk'
      ELSE 'returning'
    END
  END <> c.segment
    AND NOT EXISTS (  -- the job of new settings has not reached them yet
    SELECT FROM settings_changes s WHERE s.finished_at IS NULL AND c.id > s.last_id)
END
LIMIT :most
