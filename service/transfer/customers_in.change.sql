-- Change locked customers as the lines of a file say; an empty cell changes nothing.
-- Search text, daily totals and the audit follow from what really changed.
-- One statement: old and new values of each row are needed by all of them.
WITH l AS (
  SELECT CAST(u.place AS integer) AS place, CAST(u.id AS bigint) AS id,
      CAST(u.email_key AS text) AS email_key, CAST(u.name AS text) AS name,
      CAST(u.phone AS text) AS phone, CAST(u.email AS text) AS email,
      CAST(u.notes AS text) AS notes, CAST(u.date_created AS timestamptz) AS date_created
  FROM ROWS FROM (
      json_array_elements_text(CAST(:place AS json)), json_array_elements_text(CAST(:id AS json)),
      json_array_elements_text(CAST(:email_key AS json)),
      json_array_elements_text(CAST(:name AS json)), json_array_elements_text(CAST(:phone AS json)),
      json_array_elements_text(CAST(:email AS json)),
      json_array_elements_text(CAST(:notes AS json)),
      json_array_elements_text(CAST(:date_created AS json))
  ) AS u(place, id, email_key, name, phone, email, notes, date_created)),
changed AS (
  UPDATE customers c SET
    name = coalesce(l.name, c.name),
    name_at = CASE WHEN l.name <> coalesce(c.name, '') THEN 'infinity' ELSE c.name_at END,
    name_event = CASE WHEN l.name <> coalesce(c.name, '') THEN '' ELSE c.name_event END,
    phone = coalesce(l.phone, c.phone),
    phone_at = CASE WHEN l.phone <> coalesce(c.phone, '') THEN 'infinity' ELSE c.phone_at END,
    phone_event = CASE WHEN l.phone <> coalesce(c.phone, '') THEN '' ELSE c.phone_event END,
    notes = coalesce(l.notes, c.notes),
    date_created = LEAST(c.date_created, l.date_created),
    date_updated = clock_timestamp()
  FROM l WHERE c.id = l.id
  RETURNING c.id,
      lower(concat_ws(E'\n', coalesce(new.name, ''), new.email, new.phone, new.notes)) AS searched,
    old.name AS old_name, new.name AS new_name, old.phone AS old_phone, new.phone AS new_phone,
    old.notes AS old_notes, new.notes AS new_notes,
    old.date_created AS old_created, new.date_created AS new_created
),
found AS (
  INSERT INTO customer_search (customer_id, searched)
  SELECT id, searched FROM changed ORDER BY id
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
      'name',
      CASE WHEN old_name IS DISTINCT FROM new_name THEN jsonb_build_array(old_name, new_name) END,
      'phone',
      CASE WHEN old_phone IS DISTINCT FROM new_phone
      THEN jsonb_build_array(old_phone, new_phone) END, 'notes',
      CASE WHEN old_notes IS DISTINCT FROM new_notes
      THEN jsonb_build_array(old_notes, new_notes) END,
      'dateCreated', CASE WHEN old_created <> new_created
        THEN jsonb_build_array(old_created, new_created) END))
FROM changed ORDER BY id
