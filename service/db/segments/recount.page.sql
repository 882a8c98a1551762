-- Find, in the next page of orders, those that the newest settings judge otherwise, and their owners.
-- It reads without a lock, because every other statement that judges now uses the same settings.
-- One statement: it also returns where the next page begins.
WITH
counting AS MATERIALIZED (
  SELECT count_from, count_free_orders, time_zone FROM settings ORDER BY version DESC LIMIT 1
),
page AS MATERIALIZED (
  SELECT id, customer_id,
      counts <> NOT ((status = 'cancelled') OR (coalesce(payment_status = 'failed', false))
      OR (CASE WHEN total > 0 THEN refunded >= total OR refunded = 0
      AND (status = 'refunded' OR coalesce(payment_status = 'refunded', false))
      ELSE (status = 'refunded' OR coalesce(payment_status = 'refunded', false)) END)
      OR (counting.count_from = 'paid'
      AND coalesce(payment_status NOT IN ('paid', 'partially_refunded', 'refunded'), true))
      OR (total = 0 AND NOT counting.count_free_orders)) AS wrong
  FROM (SELECT * FROM orders WHERE id > :after ORDER BY id LIMIT :page) o CROSS JOIN counting
),
found AS MATERIALIZED (SELECT * FROM page WHERE wrong ORDER BY id LIMIT :chunk),
reached AS (
  SELECT CASE WHEN count(*) < :chunk THEN (SELECT max(id) FROM page) ELSE max(id) END AS id
  FROM found
)
SELECT reached.id AS last_order,
(SELECT count(*) FROM page WHERE page.id <= reached.id) AS examined,
  ARRAY(SELECT DISTINCT customer_id FROM found WHERE customer_id IS NOT NULL ORDER BY 1)
  AS customers,
  ARRAY(SELECT id FROM found WHERE customer_id IS NULL ORDER BY id) AS unowned
FROM reached
