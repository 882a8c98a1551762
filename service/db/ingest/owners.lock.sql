-- Lock everybody whom a batch names or whose orders it touches; return the owner of each e-mail.
-- Erased e-mails come back with the moment of erasure, and no id.
-- One statement locks in the order of the ids. The last row has the clock after the last lock.
WITH
named AS MATERIALIZED (
  SELECT n.place, i.customer_id
      FROM json_array_elements_text(CAST(:identifier AS json)) WITH ORDINALITY AS n(identifier,
      place) CROSS JOIN LATERAL (
    SELECT customer_id FROM identifiers WHERE identifier = n.identifier OFFSET 0) i
),
stored AS MATERIALIZED (
  SELECT o.customer_id, o.erased
      FROM (SELECT CAST(u.order_id AS text) AS order_id
      FROM json_array_elements_text(CAST(:order_id AS json)) AS u(order_id)) n CROSS JOIN LATERAL (
    SELECT customer_id, erased FROM orders WHERE id = n.order_id OFFSET 0) o
  UNION ALL
  SELECT o.customer_id, true
      FROM (SELECT CAST(u.order_id AS text) AS order_id
      FROM json_array_elements_text(CAST(:order_id AS json)) AS u(order_id)) n CROSS JOIN LATERAL (
    SELECT customer_id FROM orders
    WHERE id = ('erased-' || left(encode(sha256((SELECT salt
    FROM installation) || convert_to(n.order_id, 'UTF8')), 'hex'), 32)) OFFSET 0) o
  WHERE (SELECT ids_replaced FROM installation) > 0
),
concerned AS MATERIALIZED (
  SELECT customer_id AS id FROM named
  UNION SELECT id
      FROM (SELECT CAST(u.id AS bigint) AS id
      FROM json_array_elements_text(CAST(:id AS json)) AS u(id)) i
  UNION SELECT customer_id FROM stored
),
locked AS MATERIALIZED (
  SELECT c.id FROM (SELECT id FROM concerned ORDER BY id) k CROSS JOIN LATERAL (
    SELECT id FROM customers WHERE id = k.id FOR NO KEY UPDATE) c
)
SELECT l.ids AS locked,
(SELECT array_agg(place) FROM named) AS places, (SELECT array_agg(customer_id) FROM named) AS owners
  , clock_timestamp() AS locked_at,
  ids_replaced, reassignments, salt, EXISTS (SELECT FROM stored WHERE erased) AS touches_erased
FROM (SELECT array_agg(id) AS ids FROM locked) l CROSS JOIN installation
