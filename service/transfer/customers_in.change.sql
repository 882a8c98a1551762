-- Change locked customers as the lines of a file say; an empty cell changes nothing.
-- Search text, daily totals and the audit follow from what really changed.
-- One statement: old and new values of each row are needed by all of them.
WITH l AS (
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
      cleared, tags, fields, cleared_fields)),
changed AS (
  UPDATE customers c SET
    name = CASE
    WHEN ((coalesce(l.name IS DISTINCT FROM c.name AND l.name IS NOT NULL, false)
    OR coalesce(l.cleared LIKE '%,name,%', false) AND c.name IS NOT NULL)
    AND coalesce((CAST(:as_of AS timestamptz), 'import') >= (c.name_at, c.name_event), true))
    THEN l.name ELSE c.name END,
    name_at = CASE
    WHEN ((coalesce(l.name IS DISTINCT FROM c.name AND l.name IS NOT NULL, false)
    OR coalesce(l.cleared LIKE '%,name,%', false) AND c.name IS NOT NULL)
    AND coalesce((CAST(:as_of AS timestamptz), 'import') >= (c.name_at, c.name_event), true))
    THEN CAST(:as_of AS timestamptz) ELSE c.name_at END,
    name_event = CASE
    WHEN ((coalesce(l.name IS DISTINCT FROM c.name AND l.name IS NOT NULL, false)
    OR coalesce(l.cleared LIKE '%,name,%', false) AND c.name IS NOT NULL)
    AND coalesce((CAST(:as_of AS timestamptz), 'import') >= (c.name_at, c.name_event), true))
    THEN 'import' ELSE c.name_event END,
    phone = CASE
    WHEN ((coalesce(l.phone IS DISTINCT FROM c.phone AND l.phone IS NOT NULL, false)
    OR coalesce(l.cleared LIKE '%,phone,%', false) AND c.phone IS NOT NULL)
    AND coalesce((CAST(:as_of AS timestamptz), 'import') >= (c.phone_at, c.phone_event), true))
    THEN l.phone ELSE c.phone END,
    phone_at = CASE
    WHEN ((coalesce(l.phone IS DISTINCT FROM c.phone AND l.phone IS NOT NULL, false)
    OR coalesce(l.cleared LIKE '%,phone,%', false) AND c.phone IS NOT NULL)
    AND coalesce((CAST(:as_of AS timestamptz), 'import') >= (c.phone_at, c.phone_event), true))
    THEN CAST(:as_of AS timestamptz) ELSE c.phone_at END,
    phone_event = CASE
    WHEN ((coalesce(l.phone IS DISTINCT FROM c.phone AND l.phone IS NOT NULL, false)
    OR coalesce(l.cleared LIKE '%,phone,%', false) AND c.phone IS NOT NULL)
    AND coalesce((CAST(:as_of AS timestamptz), 'import') >= (c.phone_at, c.phone_event), true))
    THEN 'import' ELSE c.phone_event END,
    address = CASE
    WHEN ((coalesce(l.address IS DISTINCT FROM c.address AND l.address IS NOT NULL, false)
    OR coalesce(l.cleared LIKE '%,address,%', false) AND c.address IS NOT NULL)
    AND coalesce((CAST(:as_of AS timestamptz), 'import') >= (c.address_at, c.address_event), true))
    THEN l.address ELSE c.address END,
    address_at = CASE
    WHEN ((coalesce(l.address IS DISTINCT FROM c.address AND l.address IS NOT NULL, false)
    OR coalesce(l.cleared LIKE '%,address,%', false) AND c.address IS NOT NULL)
    AND coalesce((CAST(:as_of AS timestamptz), 'import') >= (c.address_at, c.address_event), true))
    THEN CAST(:as_of AS timestamptz) ELSE c.address_at END,
    address_event = CASE
    WHEN ((coalesce(l.address IS DISTINCT FROM c.address AND l.address IS NOT NULL, false)
    OR coalesce(l.cleared LIKE '%,address,%', false) AND c.address IS NOT NULL)
    AND coalesce((CAST(:as_of AS timestamptz), 'import') >= (c.address_at, c.address_event), true))
    THEN 'import' ELSE c.address_event END,
    email_key = CASE WHEN (c.email_key IS NULL AND EXISTS (
        SELECT FROM identifiers WHERE identifier = 'email:' || l.email_key AND customer_id = c.id))
        THEN l.email_key ELSE c.email_key END, email = CASE WHEN (c.email_key IS NULL AND EXISTS (
        SELECT FROM identifiers WHERE identifier = 'email:' || l.email_key AND customer_id = c.id))
        THEN l.email ELSE c.email END, email_at = CASE WHEN (c.email_key IS NULL AND EXISTS (
        SELECT FROM identifiers WHERE identifier = 'email:' || l.email_key AND customer_id = c.id))
        THEN CAST(:as_of AS timestamptz) ELSE c.email_at END,
        email_event = CASE WHEN (c.email_key IS NULL AND EXISTS (
        SELECT FROM identifiers WHERE identifier = 'email:' || l.email_key AND customer_id = c.id))
        THEN 'import' ELSE c.email_event END,
    notes = CASE
    WHEN ((coalesce(l.notes <> c.notes, false) OR coalesce(l.cleared LIKE '%,notes,%', false)
    AND c.notes <> '') AND (CAST(:overwrites_notes AS boolean) OR c.notes = ''))
    THEN coalesce(l.notes, '') ELSE c.notes END,
    email_opt_in = coalesce(l.email_opt_in, c.email_opt_in),
    sms_opt_in = coalesce(l.sms_opt_in, c.sms_opt_in),
    date_created = LEAST(c.date_created, l.date_created),
    date_updated = clock_timestamp()
  FROM l WHERE c.id = l.id
  RETURNING c.id, concat_ws(E'\x1f',
      coalesce(left(new.name, 200), ''), new.email,
      CASE WHEN length(new.name) > 200 THEN new.name END,
      NULLIF(search_digits(new.phone), ''),
      CASE WHEN new.phone COLLATE "C" ~ '[^-0-9 ()+./]' THEN new.phone END,
      replace(new.address ->> 'zip', ' ', ''), NULLIF(new.notes, ''),
    (SELECT string_agg(CASE split_part(i.identifier, ':', 1)
          WHEN 'email' THEN substr(i.identifier, 7)
          WHEN 'phone' THEN substr(i.identifier, 8)
          WHEN 'external' THEN substr(i.identifier, strpos(i.identifier, '#') + 1)
        END, E'\x1f' ORDER BY i.identifier)
      FROM identifiers i WHERE i.customer_id = new.id
        AND i.identifier <> coalesce('email:' || new.email_key, ''))) AS unfolded,
    old.name AS old_name, new.name AS new_name, old.phone AS old_phone, new.phone AS new_phone,
    old.address AS old_address, new.address AS new_address, old.email AS old_email,
    new.email AS new_email, old.notes AS old_notes, new.notes AS new_notes,
    old.email_opt_in AS old_email_opt_in, new.email_opt_in AS new_email_opt_in,
    old.sms_opt_in AS old_sms_opt_in, new.sms_opt_in AS new_sms_opt_in,
    old.date_created AS old_created, new.date_created AS new_created
),
found AS (
  INSERT INTO customer_search (customer_id, searched)
  SELECT id, search_folded(unfolded) || E'\n\x1e' FROM changed ORDER BY id
  ON CONFLICT (customer_id) DO UPDATE SET searched = excluded.searched
),
redated AS (
  SELECT old_created AS at, -1 AS created, 0 AS orders, 0.00 AS revenue
  FROM changed WHERE new_created <> old_created
  UNION ALL SELECT new_created, 1, 0, 0 FROM changed WHERE new_created <> old_created
),
slot AS MATERIALIZED (  -- locks in one order, so that two writers of a slot cannot deadlock
  SELECT k.slot, k.segment FROM segment_counters k
  WHERE k.slot = pg_backend_pid() % 8
  ORDER BY k.segment FOR NO KEY UPDATE
),
totalled AS (
  INSERT INTO daily_totals AS t (day, slot, created, orders, revenue)
  SELECT CAST(at AT TIME ZONE g.time_zone AS date) AS day,
      (SELECT min(slot) FROM slot) + 16 * g.generation, sum(created) AS created,
      sum(orders) AS orders, sum(revenue) AS revenue
  FROM redated CROSS JOIN daily_generations g
  GROUP BY g.generation, day
  HAVING sum(created) <> 0 OR sum(orders) <> 0 OR sum(revenue) <> 0
  ORDER BY g.generation, day
  ON CONFLICT (day, slot) DO UPDATE SET created = t.created + excluded.created,
      orders = t.orders + excluded.orders, revenue = t.revenue + excluded.revenue
)
INSERT INTO audit (actor, action, customer_id, details)
SELECT CAST(:actor AS text), 'customer.updated', id, jsonb_strip_nulls(jsonb_build_object(
      'imported', true, 'name',
      CASE WHEN old_name IS DISTINCT FROM new_name THEN jsonb_build_array(old_name, new_name) END,
      'phone',
      CASE WHEN old_phone IS DISTINCT FROM new_phone
      THEN jsonb_build_array(old_phone, new_phone) END, 'address',
      CASE WHEN old_address IS DISTINCT FROM new_address
      THEN jsonb_build_array(old_address, new_address) END, 'email',
      CASE WHEN old_email IS DISTINCT FROM new_email
      THEN jsonb_build_array(old_email, new_email) END, 'notes',
      CASE WHEN old_notes IS DISTINCT FROM new_notes
      THEN jsonb_build_array(old_notes, new_notes) END, 'email_opt_in',
      CASE WHEN old_email_opt_in IS DISTINCT FROM new_email_opt_in
      THEN jsonb_build_array(old_email_opt_in, new_email_opt_in) END, 'sms_opt_in',
      CASE WHEN old_sms_opt_in IS DISTINCT FROM new_sms_opt_in
      THEN jsonb_build_array(old_sms_opt_in, new_sms_opt_in) END,
      'dateCreated', CASE WHEN old_created <> new_created
        THEN jsonb_build_array(old_created, new_created) END))
FROM changed ORDER BY id
