-- Create the customers of a file who are new, as if a person typed them in.
-- Values from a file have the key of what a person typed: no event outranks them.
-- One statement over the chunk, in the order of the e-mails: so it cannot deadlock with a batch.
WITH l AS MATERIALIZED (
  SELECT coalesce(id, nextval('customers_id_seq')) AS number, lines.* FROM (
    SELECT CAST(u.place AS integer) AS place, CAST(u.id AS bigint) AS id,
    CAST(u.email_key AS text) AS email_key, CAST(u.external AS text) AS external,
    CAST(u.phone_identifier AS text) AS phone_identifier,
    CAST(u.identifiers AS jsonb) AS identifiers, CAST(u.name AS text) AS name,
    CAST(u.phone AS text) AS phone, CAST(u.address AS jsonb) AS address,
    CAST(u.email AS text) AS email, CAST(u.notes AS text) AS notes,
    CAST(u.email_opt_in AS boolean) AS email_opt_in, CAST(u.sms_opt_in AS boolean) AS sms_opt_in,
    CAST(u.date_created AS timestamptz) AS date_created, CAST(u.segment AS text) AS segment,
    CAST(u.held AS boolean) AS held, CAST(u.pinned AS boolean) AS pinned,
    CAST(u.pinned_until AS timestamptz) AS pinned_until, CAST(u.by_hand AS text) AS by_hand,
    CAST(u.cleared AS text) AS cleared, CAST(u.tags AS jsonb) AS tags,
    CAST(u.fields AS jsonb) AS fields, CAST(u.cleared_fields AS jsonb) AS cleared_fields
    FROM ROWS FROM (
        json_array_elements_text(CAST(:place AS json)), json_array_elements_text(CAST(:id AS json)),
        json_array_elements_text(CAST(:email_key AS json)),
        json_array_elements_text(CAST(:external AS json)),
        json_array_elements_text(CAST(:phone_identifier AS json)),
        json_array_elements_text(CAST(:identifiers AS json)),
        json_array_elements_text(CAST(:name AS json)),
        json_array_elements_text(CAST(:phone AS json)),
        json_array_elements_text(CAST(:address AS json)),
        json_array_elements_text(CAST(:email AS json)),
        json_array_elements_text(CAST(:notes AS json)),
        json_array_elements_text(CAST(:email_opt_in AS json)),
        json_array_elements_text(CAST(:sms_opt_in AS json)),
        json_array_elements_text(CAST(:date_created AS json)),
        json_array_elements_text(CAST(:segment AS json)),
        json_array_elements_text(CAST(:held AS json)),
        json_array_elements_text(CAST(:pinned AS json)),
        json_array_elements_text(CAST(:pinned_until AS json)),
        json_array_elements_text(CAST(:by_hand AS json)),
        json_array_elements_text(CAST(:cleared AS json)),
        json_array_elements_text(CAST(:tags AS json)),
        json_array_elements_text(CAST(:fields AS json)),
        json_array_elements_text(CAST(:cleared_fields AS json))
    ) AS u(place, id, email_key, external, phone_identifier, identifiers, name, phone, address,
    email, notes, email_opt_in, sms_opt_in, date_created, segment, held, pinned, pinned_until,
    by_hand, cleared, tags, fields, cleared_fields)) lines
),
known AS (
  INSERT INTO identifiers (identifier, customer_id, given_by)
  SELECT identifier, number, :actor FROM l CROSS JOIN LATERAL (
      VALUES ('email:' || email_key), (external), (phone_identifier)
  ) i (identifier)
  WHERE identifier IS NOT NULL
  ORDER BY identifier COLLATE "C"
),
others AS (
  INSERT INTO identifiers (identifier, customer_id, given_by)
  SELECT identifier, number, :actor
  FROM l CROSS JOIN LATERAL jsonb_array_elements_text(identifiers) i (identifier)
  WHERE identifier NOT IN (coalesce('email:' || email_key, ''), coalesce(external, ''),
      coalesce(phone_identifier, ''))
  ORDER BY identifier COLLATE "C"
  ON CONFLICT DO NOTHING
)
INSERT INTO customers (id, email_key,
    name, name_at, name_event, phone, phone_at, phone_event, address, address_at, address_event,
    email, email_at, email_event, notes,
    email_opt_in, sms_opt_in, date_created, segment, segment_manual, segment_pinned,
    segment_pinned_until, segment_held_since)
SELECT number, email_key,
  name,
      CASE WHEN name IS NOT NULL
      THEN CASE WHEN coalesce(l.by_hand LIKE '%,name,%', false) THEN 'infinity'
      ELSE CAST(:as_of AS timestamptz) END END,
      CASE WHEN name IS NOT NULL
      THEN CASE WHEN coalesce(l.by_hand LIKE '%,name,%', false) THEN '' ELSE 'import' END END,
      phone,
      CASE WHEN phone IS NOT NULL
      THEN CASE WHEN coalesce(l.by_hand LIKE '%,phone,%', false) THEN 'infinity'
      ELSE CAST(:as_of AS timestamptz) END END,
      CASE WHEN phone IS NOT NULL
      THEN CASE WHEN coalesce(l.by_hand LIKE '%,phone,%', false) THEN '' ELSE 'import' END END,
      address,
      CASE WHEN address IS NOT NULL
      THEN CASE WHEN coalesce(l.by_hand LIKE '%,address,%', false) THEN 'infinity'
      ELSE CAST(:as_of AS timestamptz) END END,
      CASE WHEN address IS NOT NULL
      THEN CASE WHEN coalesce(l.by_hand LIKE '%,address,%', false) THEN '' ELSE 'import' END END,
      email,
      CASE WHEN email IS NOT NULL
      THEN CASE WHEN coalesce(l.by_hand LIKE '%,email,%', false) THEN 'infinity'
      ELSE CAST(:as_of AS timestamptz) END END,
      CASE WHEN email IS NOT NULL
      THEN CASE WHEN coalesce(l.by_hand LIKE '%,email,%', false) THEN '' ELSE 'import' END END,
  coalesce(notes, ''), coalesce(email_opt_in, false), coalesce(sms_opt_in, false),
  coalesce(date_created, clock_timestamp()),
  CASE WHEN held THEN segment ELSE 'new' END, held, held AND pinned,
  CASE WHEN held THEN pinned_until END, CASE WHEN held THEN clock_timestamp() END
FROM l ORDER BY number
RETURNING id, segment_manual
