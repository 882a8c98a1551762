-- Say what each line of a customers file would do: whose e-mail and id it has, and what differs.
-- It writes nothing, so a dry run says what the real run does.
-- One statement: it compares all lines of a chunk with one snapshot.
SELECT l.place, c.id, c.segment, c.total_orders, c.total_spent, e.erased_at, t.id AS taken_by,
  c.id IS NULL AND (i.identifier IS NOT NULL AND i.customer_id IS NULL
    OR x.identifier IS NOT NULL AND x.customer_id IS NULL
    OR p.identifier IS NOT NULL AND p.customer_id IS NULL) AS no_person,
  EXISTS (SELECT FROM segment_changes h WHERE h.customer_id = l.id) AS used,
  c.id IS NOT NULL AND (
  ((coalesce(l.name IS DISTINCT FROM c.name AND l.name IS NOT NULL, false)
      OR coalesce(l.cleared LIKE '%,name,%', false) AND c.name IS NOT NULL)
      AND coalesce((CAST(:as_of AS timestamptz), 'import') >= (c.name_at, c.name_event), true))
      OR ((coalesce(l.phone IS DISTINCT FROM c.phone AND l.phone IS NOT NULL, false)
      OR coalesce(l.cleared LIKE '%,phone,%', false) AND c.phone IS NOT NULL)
      AND coalesce((CAST(:as_of AS timestamptz), 'import') >= (c.phone_at, c.phone_event), true))
      OR ((coalesce(l.address IS DISTINCT FROM c.address AND l.address IS NOT NULL, false)
      OR coalesce(l.cleared LIKE '%,address,%', false) AND c.address IS NOT NULL)
      AND coalesce((CAST(:as_of AS timestamptz), 'import') >= (c.address_at, c.address_event),
      true))
    OR ((coalesce(l.notes <> c.notes, false) OR coalesce(l.cleared LIKE '%,notes,%', false)
    AND c.notes <> '') AND (CAST(:overwrites_notes AS boolean) OR c.notes = ''))
    OR coalesce(l.email_opt_in <> c.email_opt_in, false)
    OR coalesce(l.sms_opt_in <> c.sms_opt_in, false)
    OR coalesce(l.date_created < c.date_created, false)
    OR (EXISTS (
      SELECT FROM jsonb_array_elements_text(l.tags) theirs (tag_key) WHERE NOT EXISTS (
        SELECT FROM customer_tags ct JOIN tags t ON t.id = ct.tag_id
        WHERE ct.customer_id = c.id AND t.folded = theirs.tag_key))
      OR coalesce(l.cleared LIKE '%,tags,%', false)
      AND EXISTS (SELECT FROM customer_tags ct WHERE ct.customer_id = c.id))
    OR (l.fields <> '{}' AND NOT coalesce((SELECT f.field_values FROM customer_fields f
        WHERE f.customer_id = c.id), '{}') @> l.fields
      OR EXISTS (SELECT FROM jsonb_array_elements_text(l.cleared_fields) k
      WHERE coalesce((SELECT f.field_values FROM customer_fields f
          WHERE f.customer_id = c.id), '{}') ? k))
    OR l.external IS NOT NULL AND x.identifier IS NULL
    OR l.email_key IS NOT NULL AND i.identifier IS NULL) AS changes,
  c.id IS NOT NULL AND (
  (coalesce(l.name IS DISTINCT FROM c.name AND l.name IS NOT NULL, false)
      OR coalesce(l.cleared LIKE '%,name,%', false) AND c.name IS NOT NULL)
      AND NOT coalesce((CAST(:as_of AS timestamptz), 'import') >= (c.name_at, c.name_event), true)
      OR (coalesce(l.phone IS DISTINCT FROM c.phone AND l.phone IS NOT NULL, false)
      OR coalesce(l.cleared LIKE '%,phone,%', false) AND c.phone IS NOT NULL)
      AND NOT coalesce((CAST(:as_of AS timestamptz), 'import') >= (c.phone_at, c.phone_event),
      true)
      OR (coalesce(l.address IS DISTINCT FROM c.address AND l.address IS NOT NULL, false)
      OR coalesce(l.cleared LIKE '%,address,%', false) AND c.address IS NOT NULL)
      AND NOT coalesce((CAST(:as_of AS timestamptz), 'import') >= (c.address_at, c.address_event),
      true)
    OR (coalesce(l.notes <> c.notes, false) OR coalesce(l.cleared LIKE '%,notes,%', false)
    AND c.notes <> '')
    AND NOT ((coalesce(l.notes <> c.notes, false) OR coalesce(l.cleared LIKE '%,notes,%', false)
    AND c.notes <> '') AND (CAST(:overwrites_notes AS boolean) OR c.notes = ''))) AS keeps
FROM (
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
      json_array_elements_text(CAST(:name AS json)), json_array_elements_text(CAST(:phone AS json)),
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
  ) AS u(place, id, email_key, external, phone_identifier, identifiers, name, phone, address, email,
      notes, email_opt_in, sms_opt_in, date_created, segment, held, pinned, pinned_until, by_hand,
      cleared, tags, fields, cleared_fields)) l
LEFT JOIN identifiers i ON i.identifier = 'email:' || l.email_key
LEFT JOIN identifiers x ON x.identifier = l.external
LEFT JOIN identifiers p ON p.identifier = l.phone_identifier
LEFT JOIN customers c ON c.id = coalesce(
    i.customer_id, x.customer_id, p.customer_id, CASE WHEN l.email_key IS NULL THEN l.id END)
LEFT JOIN customers t ON t.id = l.id
LEFT JOIN LATERAL (
  SELECT max(erased_at) AS erased_at FROM erased
  WHERE email_hash IN (
      CASE WHEN i.customer_id IS NULL
      THEN sha256((SELECT salt
      FROM installation) || convert_to(regexp_replace('email:' || l.email_key, '^email:', ''),
      'UTF8')) END,
      CASE WHEN x.customer_id IS NULL
      THEN sha256((SELECT salt
      FROM installation) || convert_to(regexp_replace(l.external, '^email:', ''), 'UTF8')) END,
      CASE WHEN p.customer_id IS NULL
      THEN sha256((SELECT salt
      FROM installation) || convert_to(regexp_replace(l.phone_identifier, '^email:', ''),
      'UTF8')) END)
) e ON true
