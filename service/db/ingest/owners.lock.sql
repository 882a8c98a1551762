-- Find whom a batch names, and lock them and everybody whose orders it touches.
-- If an identifier is unknown, lock nobody: it is inserted first, then this runs again.
-- One statement, in the order of the ids. It returns one row, with the clock after the last lock.
WITH
named AS MATERIALIZED (
  SELECT n.place, i.customer_id
      FROM json_array_elements_text(CAST(:identifier AS json)) WITH ORDINALITY AS n(identifier,
      place) CROSS JOIN LATERAL (
    SELECT customer_id FROM identifiers WHERE identifier = n.identifier OFFSET 0) i
),
known AS MATERIALIZED (
  SELECT coalesce(count(*) FILTER (WHERE place <= CAST(:wanted AS bigint)) = :wanted, true)
    AS enough
  FROM named
),
erasures AS MATERIALIZED (
  SELECT n.place, e.erased_at
      FROM json_array_elements_text(CAST(:identifier AS json)) WITH ORDINALITY AS n(identifier,
      place)
  JOIN erased e ON e.email_hash = sha256((SELECT salt
      FROM installation) || convert_to(regexp_replace(n.identifier, '^email:', ''), 'UTF8'))
  WHERE EXISTS (SELECT FROM erased)
),
stored AS MATERIALIZED (
  SELECT o.customer_id, o.erased
      FROM (SELECT CAST(u.order_id AS text) AS order_id
      FROM json_array_elements_text(CAST(:order_id AS json)) AS u(order_id)) n CROSS JOIN LATERAL (
    SELECT customer_id, erased FROM orders WHERE id = n.order_id OFFSET 0) o
  WHERE (SELECT enough FROM known)
  UNION ALL
  SELECT o.customer_id, true
      FROM (SELECT CAST(u.order_id AS text) AS order_id
      FROM json_array_elements_text(CAST(:order_id AS json)) AS u(order_id)) n CROSS JOIN LATERAL (
    SELECT customer_id FROM orders
    WHERE id = ('erased-' || left(encode(sha256((SELECT salt
    FROM installation) || convert_to(n.order_id, 'UTF8')), 'hex'), 32)) OFFSET 0) o
  WHERE (SELECT enough FROM known) AND (SELECT ids_replaced FROM installation) > 0
),
concerned AS MATERIALIZED (
  SELECT customer_id AS id FROM named
  UNION SELECT id
      FROM (SELECT CAST(u.id AS bigint) AS id
      FROM json_array_elements_text(CAST(:id AS json)) AS u(id)) i
  UNION SELECT customer_id FROM stored
),
locked AS MATERIALIZED (
  SELECT c.id FROM (
    SELECT id FROM concerned WHERE (SELECT enough FROM known) ORDER BY id
  ) k
  CROSS JOIN LATERAL (SELECT id FROM customers WHERE id = k.id FOR NO KEY UPDATE) c
)
SELECT l.ids AS locked, enough, (SELECT array_agg(place) FROM named) AS named_place,
    (SELECT array_agg(customer_id) FROM named) AS named_customer_id,
(SELECT array_agg(place) FROM erasures) AS erasures_place,
    (SELECT array_agg(erased_at) FROM erasures) AS erasures_erased_at,
  clock_timestamp() AS locked_at,
  ids_replaced, reassignments, salt, EXISTS (SELECT FROM stored WHERE erased) AS touches_erased
FROM (SELECT array_agg(id) AS ids FROM locked) l CROSS JOIN known CROSS JOIN installation
