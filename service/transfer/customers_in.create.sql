-- Create the customers of a file who are new, as if a person typed them in.
-- Values from a file have the key of what a person typed: no event outranks them.
-- One statement over the chunk, in the order of the e-mails: so it cannot deadlock with a batch.
WITH l AS MATERIALIZED (
  SELECT coalesce(id, nextval('customers_id_seq')) AS number, email_key, notes, date_created,
    name, phone, email
  FROM (
    SELECT CAST(u.place AS integer) AS place, CAST(u.id AS bigint) AS id,
    CAST(u.email_key AS text) AS email_key, CAST(u.name AS text) AS name,
    CAST(u.phone AS text) AS phone, CAST(u.email AS text) AS email, CAST(u.notes AS text) AS notes,
    CAST(u.date_created AS timestamptz) AS date_created
    FROM ROWS FROM (
        json_array_elements_text(CAST(:place AS json)), json_array_elements_text(CAST(:id AS json)),
        json_array_elements_text(CAST(:email_key AS json)),
        json_array_elements_text(CAST(:name AS json)),
        json_array_elements_text(CAST(:phone AS json)),
        json_array_elements_text(CAST(:email AS json)),
        json_array_elements_text(CAST(:notes AS json)),
        json_array_elements_text(CAST(:date_created AS json))
    ) AS u(place, id, email_key, name, phone, email, notes, date_created)) lines
),
known AS (
  INSERT INTO identifiers (identifier, customer_id, given_by)
  SELECT 'email:' || email_key, number, :actor FROM l WHERE email_key IS NOT NULL
  ORDER BY email_key COLLATE "C"
)
INSERT INTO customers (id, email_key,
    name, name_at, name_event, phone, phone_at, phone_event, email, email_at, email_event, notes,
    date_created)
SELECT number, email_key,
  name, CASE WHEN name IS NOT NULL THEN CAST('infinity' AS timestamptz) END,
      CASE WHEN name IS NOT NULL THEN '' END, phone,
      CASE WHEN phone IS NOT NULL THEN CAST('infinity' AS timestamptz) END,
      CASE WHEN phone IS NOT NULL THEN '' END, email,
      CASE WHEN email IS NOT NULL THEN CAST('infinity' AS timestamptz) END,
      CASE WHEN email IS NOT NULL THEN '' END,
  coalesce(notes, ''), coalesce(date_created, clock_timestamp())
FROM l ORDER BY number
RETURNING id
