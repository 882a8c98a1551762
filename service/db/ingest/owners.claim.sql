-- Find whom a batch names, insert the identifiers that nobody has, and lock everybody concerned.
-- If only Python can decide who gets an identifier, insert none and lock nobody.
-- One statement instead of three: all look-ups are made once, and the cores wait for less.
WITH looked_up AS MATERIALIZED (  -- the identifiers after the `wanted` ones are not inserted
  SELECT n.place, n.identifier, coalesce(CAST(n.common AS bigint), n.place) AS common,
    coalesce(i.known, false) AS known, i.customer_id
  FROM ROWS FROM (
      json_array_elements_text(CAST(:identifier AS json)),
      json_array_elements_text(CAST(:common AS json))
  ) WITH ORDINALITY AS n(identifier, common, place) LEFT JOIN LATERAL (
    SELECT true AS known, customer_id FROM identifiers WHERE identifier = n.identifier OFFSET 0
  ) i ON true
),
named AS MATERIALIZED (SELECT place, customer_id FROM looked_up WHERE known),
erasures AS MATERIALIZED (
  SELECT l.place, e.erased_at FROM looked_up l
  JOIN erased e ON e.email_hash = sha256((SELECT salt
      FROM installation) || convert_to(regexp_replace(l.identifier, '^email:', ''), 'UTF8'))
  WHERE EXISTS (SELECT FROM erased)
),
decided AS MATERIALIZED (
  SELECT coalesce(bool_and(all_known OR (
          NOT any_known AND common > 0 AND NOT EXISTS (SELECT FROM erasures))), true) AS decided
  FROM (
    SELECT common, bool_and(known) AS all_known, bool_or(known) AS any_known
    FROM looked_up WHERE place <= CAST(:wanted AS bigint) GROUP BY common
  ) groups
),
fresh AS MATERIALIZED (
  SELECT common, nextval('customers_id_seq') AS id
  FROM (
    SELECT DISTINCT common FROM looked_up
    WHERE NOT known AND place <= :wanted AND (SELECT decided FROM decided) ORDER BY common
  ) numbered
),
unowned AS MATERIALIZED (
  SELECT place, identifier, id FROM looked_up JOIN fresh USING (common) WHERE NOT known
),
created AS (
  INSERT INTO identifiers (identifier, customer_id)
  SELECT identifier, id FROM unowned ORDER BY place
  ON CONFLICT (identifier) DO NOTHING RETURNING identifier
),
ready AS MATERIALIZED (
  SELECT decided AND (SELECT count(*) FROM created) = (SELECT count(*) FROM unowned) AS ready
  FROM decided
),
stored AS MATERIALIZED (
  SELECT o.customer_id, o.erased
      FROM (SELECT CAST(u.order_id AS text) AS order_id
      FROM json_array_elements_text(CAST(:order_id AS json)) AS u(order_id)) n CROSS JOIN LATERAL (
    SELECT customer_id, erased FROM orders WHERE id = n.order_id OFFSET 0) o
  WHERE (SELECT ready FROM ready)
  UNION ALL
  SELECT o.customer_id, true
      FROM (SELECT CAST(u.order_id AS text) AS order_id
      FROM json_array_elements_text(CAST(:order_id AS json)) AS u(order_id)) n CROSS JOIN LATERAL (
    SELECT customer_id FROM orders
    WHERE id = ('erased-' || left(encode(sha256((SELECT salt
    FROM installation) || convert_to(n.order_id, 'UTF8')), 'hex'), 32)) OFFSET 0) o
  WHERE (SELECT ready FROM ready) AND (SELECT ids_replaced FROM installation) > 0
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
    SELECT id FROM concerned WHERE (SELECT ready FROM ready) ORDER BY id
  ) k
  CROSS JOIN LATERAL (SELECT id FROM customers WHERE id = k.id FOR NO KEY UPDATE) c
),
taken AS MATERIALIZED (
  SELECT place FROM unowned
  WHERE NOT (SELECT ready FROM ready) AND identifier NOT IN (SELECT identifier FROM created)
)
SELECT l.ids AS locked, decided, (SELECT array_agg(place) FROM named) AS named_place,
    (SELECT array_agg(customer_id) FROM named) AS named_customer_id,
(SELECT array_agg(place) FROM unowned) AS unowned_place,
    (SELECT array_agg(id) FROM unowned) AS unowned_id,
    (SELECT array_agg(place) FROM taken) AS taken_place,
(SELECT array_agg(place) FROM erasures) AS erasures_place,
    (SELECT array_agg(erased_at) FROM erasures) AS erasures_erased_at,
  clock_timestamp() AS locked_at,
  ids_replaced, reassignments, salt, EXISTS (SELECT FROM stored WHERE erased) AS touches_erased
FROM (SELECT array_agg(id) AS ids FROM locked) l CROSS JOIN decided CROSS JOIN installation
