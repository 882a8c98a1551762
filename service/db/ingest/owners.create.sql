-- Create the customers whom a batch names by an e-mail that nobody has, or had before a correction.
-- A person who was erased is created again only by an order placed after the erasure.
-- One statement over the whole batch, in the order of the e-mails: so two batches cannot deadlock.
WITH named AS (
  SELECT n.*, CASE WHEN EXISTS (SELECT FROM erased) THEN (
      SELECT erased_at FROM erased
      WHERE email_hash = sha256((SELECT salt FROM installation) || convert_to(n.email_key,
      'UTF8'))) END AS erased_at
  FROM (
    SELECT CAST(u.email_key AS text) AS email_key, CAST(u.earliest AS timestamptz) AS earliest,
    CAST(u.latest AS timestamptz) AS latest
    FROM ROWS FROM (
        json_array_elements_text(CAST(:email_key AS json)),
        json_array_elements_text(CAST(:earliest AS json)),
        json_array_elements_text(CAST(:latest AS json))
    ) AS u(email_key, earliest, latest)
  ) n
)
INSERT INTO customers (email, email_key, date_created)
SELECT email_key, email_key, CASE WHEN erased_at IS NULL THEN earliest ELSE latest END FROM named
LEFT JOIN LATERAL (
  SELECT true AS known FROM customers c WHERE c.email_key = named.email_key
  UNION ALL
  SELECT true FROM former_emails f
  WHERE f.email_key = named.email_key AND EXISTS (SELECT FROM former_emails) LIMIT 1
) c ON true
WHERE known IS NULL AND coalesce(latest > erased_at, true)
ORDER BY email_key COLLATE "C"
ON CONFLICT (email_key) DO NOTHING
