-- Create the customers of a file who are new, as if a person typed them in.
-- Values from a file have the key of what a person typed: no event outranks them.
-- One statement over the chunk, in the order of the e-mails: so it cannot deadlock with a batch.
INSERT INTO customers (id, email, email_key,
    name, name_at, name_event, phone, phone_at, phone_event, notes, date_created)
SELECT coalesce(id, nextval('customers_id_seq')), email, email_key,
  name, CASE WHEN name IS NOT NULL THEN CAST('infinity' AS timestamptz) END,
      CASE WHEN name IS NOT NULL THEN '' END, phone,
      CASE WHEN phone IS NOT NULL THEN CAST('infinity' AS timestamptz) END,
      CASE WHEN phone IS NOT NULL THEN '' END,
  coalesce(notes, ''), coalesce(date_created, clock_timestamp())
FROM (
  SELECT CAST(u.id AS bigint) AS id, CAST(u.email_key AS text) AS email_key,
      CAST(u.email AS text) AS email, CAST(u.name AS text) AS name, CAST(u.phone AS text) AS phone,
      CAST(u.notes AS text) AS notes, CAST(u.date_created AS timestamptz) AS date_created
  FROM ROWS FROM (
      json_array_elements_text(CAST(:id AS json)),
      json_array_elements_text(CAST(:email_key AS json)),
      json_array_elements_text(CAST(:email AS json)), json_array_elements_text(CAST(:name AS json)),
      json_array_elements_text(CAST(:phone AS json)),
      json_array_elements_text(CAST(:notes AS json)),
      json_array_elements_text(CAST(:date_created AS json))
  ) AS u(id, email_key, email, name, phone, notes, date_created)) l ORDER BY email_key COLLATE "C"
ON CONFLICT (email_key) DO NOTHING
RETURNING id
