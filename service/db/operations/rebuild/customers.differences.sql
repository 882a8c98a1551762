-- Recompute metrics and segments of a chunk of customers from their orders; return who differs.
-- A segment is no difference as long as the sweep or new settings still have time to assign it.
-- One statement, so orders that arrive meanwhile are no difference.
WITH after AS (
  SELECT c.ctid AS place, c.id, c.name, c.name_at, c.name_event, c.phone, c.phone_at, c.phone_event,
      c.address, c.address_at, c.address_event, c.email, c.email_at, c.email_event, c.email_key,
      c.segment,
    c.segment_manual, c.segment_pinned, c.segment_pinned_until, c.segment_held_since,
    o.total_orders, o.total_spent, o.first_order_date, o.last_order_date,
    o.newest_order AS newest_order, c.date_created AS date_created, c.total_orders AS stored_orders,
    c.total_spent AS stored_spent, c.first_order_date AS stored_first,
    c.last_order_date AS stored_last, c.segment_sequence = 0 AS unannounced
  FROM customers c CROSS JOIN LATERAL (SELECT
      CAST(count(*) FILTER (WHERE counts) AS integer) AS total_orders,
      coalesce(sum(net) FILTER (WHERE counts), 0.00) AS total_spent,
      min(date_created) FILTER (WHERE counts) AS first_order_date,
      max(date_created) FILTER (WHERE counts) AS last_order_date,
      max(date_created) AS newest_order FROM orders WHERE customer_id = c.id) o
  WHERE c.id = ANY(:ids)
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
promised AS (
  SELECT version, auto_segmentation, precedence, new_order_count, vip_order_count, vip_total_spent,
      at_risk_before - CAST(:promise AS interval) AS at_risk_before,
      inactive_before - CAST(:promise AS interval) AS inactive_before
  FROM limits
),
compared AS (
  SELECT j.*,
  (stored_orders, stored_spent, stored_first, stored_last) IS DISTINCT FROM
  (total_orders, total_spent, first_order_date, last_order_date) AS metrics_differ,
    unannounced OR CASE WHEN j.segment_manual
      THEN (NOT j.segment_pinned
      AND coalesce(j.segment_pinned_until <= CAST(:now AS timestamptz) - CAST(:promise AS interval),
      j.newest_order > j.segment_held_since, false))
    ELSE l.auto_segmentation
      AND CASE l.precedence
      WHEN 'recency_first' THEN
        CASE
        WHEN (j.last_order_date <= l.inactive_before) THEN 'inactive'
        WHEN (j.last_order_date <= l.at_risk_before) THEN 'at_risk'
        WHEN (j.total_orders >= l.vip_order_count OR j.total_spent >= l.vip_total_spent) THEN 'vip'
        WHEN (j.total_orders <= l.new_order_count) THEN 'new'
        ELSE 'returning'
      END
      WHEN 'value_first' THEN
        CASE
        WHEN (j.total_orders <= l.new_order_count) THEN 'new'
        WHEN (j.total_orders >= l.vip_order_count OR j.total_spent >= l.vip_total_spent) THEN 'vip'
        WHEN (j.last_order_date <= l.inactive_before) THEN 'inactive'
        WHEN (j.last_order_date <= l.at_risk_before) THEN 'at_risk'
        ELSE 'returning'
      END
    END <> j.segment
      AND CASE p.precedence
      WHEN 'recency_first' THEN
        CASE
        WHEN (j.last_order_date <= p.inactive_before) THEN 'inactive'
        WHEN (j.last_order_date <= p.at_risk_before) THEN 'at_risk'
        WHEN (j.total_orders >= p.vip_order_count OR j.total_spent >= p.vip_total_spent) THEN 'vip'
        WHEN (j.total_orders <= p.new_order_count) THEN 'new'
        ELSE 'returning'
      END
      WHEN 'value_first' THEN
        CASE
        WHEN (j.total_orders <= p.new_order_count) THEN 'new'
        WHEN (j.total_orders >= p.vip_order_count OR j.total_spent >= p.vip_total_spent) THEN 'vip'
        WHEN (j.last_order_date <= p.inactive_before) THEN 'inactive'
        WHEN (j.last_order_date <= p.at_risk_before) THEN 'at_risk'
        ELSE 'returning'
      END
    END <> j.segment
      AND NOT EXISTS (  -- the job of new settings has not reached them yet
      SELECT FROM settings_changes s WHERE s.finished_at IS NULL AND j.id > s.last_id)
  END AS segment_differs
  FROM judged j CROSS JOIN limits l CROSS JOIN promised p
)
SELECT id, metrics_differ, stored_orders, stored_spent, stored_first, stored_last, segment,
  total_orders, total_spent, first_order_date, last_order_date, judged_segment
FROM compared WHERE metrics_differ OR segment_differs ORDER BY id
