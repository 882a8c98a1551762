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
  UNION SELECT o.customer_id
      FROM (SELECT CAST(u.order_id AS text) AS order_id
      FROM json_array_elements_text(CAST(:order_id AS json)) AS u(order_id)) n CROSS JOIN LATERAL (
    SELECT customer_id FROM orders WHERE id = n.order_id OFFSET 0) o
),
locked AS MATERIALIZED (
  SELECT c.id, c.email_key FROM (SELECT id FROM concerned ORDER BY id) k CROSS JOIN LATERAL (
    SELECT id, email_key FROM customers WHERE id = k.id FOR NO KEY UPDATE) c
)
SELECT id, email_key, CAST(NULL AS timestamptz) AS erased_at, clock_timestamp() AS locked_at
FROM locked
UNION ALL
SELECT id, f.email_key, NULL, clock_timestamp() FROM formerly f JOIN locked USING (id)
UNION ALL
SELECT NULL, n.email_key, e.erased_at, clock_timestamp()
FROM (SELECT CAST(u.email_key AS text) AS email_key
    FROM json_array_elements_text(CAST(:email_key AS json)) AS u(email_key)) n
JOIN erased e ON e.email_hash = sha256((SELECT salt FROM installation) || convert_to(n.email_key,
    'UTF8'))
WHERE EXISTS (SELECT FROM erased)
