-- Lock everybody whom a batch names or whose orders it touches; return the owner of each e-mail.
-- Erased e-mails come back with the moment of erasure, and no id.
-- One statement locks in the order of the ids. The last row has the clock after the last lock.
WITH formerly AS MATERIALIZED (
  SELECT f.customer_id AS id, n.email_key
      FROM (SELECT CAST(u.email_key AS text) AS email_key
      FROM json_array_elements_text(CAST(:email_key AS json)) AS u(email_key)) n
  CROSS JOIN LATERAL (
    SELECT customer_id FROM former_emails WHERE email_key = n.email_key OFFSET 0) f
  WHERE EXISTS (SELECT FROM former_emails)
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
  SELECT c.id
      FROM (SELECT CAST(u.email_key AS text) AS email_key
      FROM json_array_elements_text(CAST(:email_key AS json)) AS u(email_key)) e
      CROSS JOIN LATERAL (
    SELECT id FROM customers WHERE email_key = e.email_key OFFSET 0) c
  UNION SELECT id FROM formerly
  UNION SELECT id
      FROM (SELECT CAST(u.id AS bigint) AS id
      FROM json_array_elements_text(CAST(:id AS json)) AS u(id)) i
  UNION SELECT customer_id FROM stored
),
locked AS MATERIALIZED (
  SELECT c.id, c.email_key FROM (SELECT id FROM concerned ORDER BY id) k CROSS JOIN LATERAL (
    SELECT id, email_key FROM customers WHERE id = k.id FOR NO KEY UPDATE) c
)
SELECT id, email_key, CAST(NULL AS timestamptz) AS erased_at,
  CAST(NULL AS timestamptz) AS locked_at, CAST(NULL AS bigint) AS ids_replaced,
  CAST(NULL AS boolean) AS touches_erased, CAST(NULL AS bytea) AS salt
FROM locked
UNION ALL
SELECT id, f.email_key, NULL, NULL, NULL, NULL, NULL FROM formerly f JOIN locked USING (id)
UNION ALL
SELECT NULL, n.email_key, e.erased_at, NULL, NULL, NULL, NULL
FROM (SELECT CAST(u.email_key AS text) AS email_key
    FROM json_array_elements_text(CAST(:email_key AS json)) AS u(email_key)) n
JOIN erased e ON e.email_hash = sha256((SELECT salt FROM installation) || convert_to(n.email_key,
    'UTF8'))
WHERE EXISTS (SELECT FROM erased)
UNION ALL
SELECT NULL, NULL, NULL, clock_timestamp(), ids_replaced,
  EXISTS (SELECT FROM stored WHERE erased), salt
FROM installation
