-- Judge a chunk of customers by the newest settings; return those who are in another segment.
-- It reads without a lock, because every other statement that judges now uses the same settings.
-- One statement: it also returns where the next chunk begins.
WITH after AS (SELECT c.ctid AS place, c.*, CAST(NULL AS timestamptz) AS newest_order
    FROM customers c WHERE c.id > :after ORDER BY c.id LIMIT :most),
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
)
SELECT count(*) AS examined, max(id) AS last_id,
  array_agg(id ORDER BY id) FILTER (WHERE judged_segment <> segment) AS ids
FROM judged
