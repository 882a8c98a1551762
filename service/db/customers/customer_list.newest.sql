-- The first page of all customers, the newest first: what the dashboard opens with.
-- Ids and sort values are read in the order of an index; only the rows of the page are looked up.
-- One statement: a page never mixes two snapshots. One row more shows that there is a next page.
WITH page AS (
  SELECT *
      FROM ((SELECT c.id AS id, c.date_created AS sort_value FROM customers c WHERE true AND true
      AND true ORDER BY sort_value DESC,
      c.id DESC LIMIT CAST(:one_more AS bigint) + :skip)) gathered
  ORDER BY sort_value DESC, id DESC LIMIT :one_more OFFSET :skip
)
SELECT c.id, c.email, c.email_key, c.name, c.phone, c.address, c.email_opt_in, c.sms_opt_in,
    c.notes, c.date_created, c.date_updated, c.total_orders, c.total_spent, c.first_order_date,
    c.last_order_date, c.segment, c.segment_manual, c.segment_pinned, c.segment_pinned_until,
  ARRAY(SELECT o.id FROM orders o WHERE o.customer_id = c.id ORDER BY o.date_created, o.id)
  AS order_ids, ARRAY(SELECT t.name FROM customer_tags ct JOIN tags t ON t.id = ct.tag_id
  WHERE ct.customer_id = c.id ORDER BY t.folded) AS tags,
      coalesce((SELECT f.field_values FROM customer_fields f
    WHERE f.customer_id = c.id), '{}') AS own_fields,
(SELECT coalesce(jsonb_agg(jsonb_build_array(i.identifier, i.given_by, i.since)
      ORDER BY i.since, i.identifier), '[]')
  FROM identifiers i WHERE i.customer_id = c.id) AS stored_identifiers,
(SELECT coalesce(jsonb_agg(jsonb_build_array(a.currency, a.orders, CAST(a.amount AS text))
      ORDER BY a.currency), '[]')
  FROM (SELECT o.currency, count(*) AS orders, sum(o.total - LEAST(o.refunded, o.total)) AS amount
      FROM orders o
    WHERE o.customer_id = c.id AND o.counts AND o.currency IS NOT NULL
    AND o.exchange_rate IS NULL GROUP BY o.currency) a) AS stored_money_apart,
    CAST(page.sort_value AS text) AS sort_value
FROM page CROSS JOIN LATERAL (SELECT * FROM customers WHERE id = page.id OFFSET 0) c
ORDER BY page.sort_value DESC, c.id DESC
