-- Say what each line of a customers file would do: whose e-mail and id it has, and what differs.
-- It writes nothing, so a dry run says what the real run does.
-- One statement: it compares all lines of a chunk with one snapshot.
SELECT l.place, c.id, c.segment, e.erased_at, t.id AS taken_by,
  i.identifier IS NOT NULL AND i.customer_id IS NULL AS no_person,
  EXISTS (SELECT FROM segment_changes h WHERE h.customer_id = l.id) AS used,
  c.id IS NOT NULL AND (
    coalesce(l.name <> coalesce(c.name, ''), false)
    OR coalesce(l.phone <> coalesce(c.phone, ''), false)
    OR coalesce(l.notes <> c.notes, false)
    OR coalesce(l.date_created < c.date_created, false)) AS changes
FROM (
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
  ) AS u(place, id, email_key, name, phone, email, notes, date_created)) l
LEFT JOIN identifiers i ON i.identifier = 'email:' || l.email_key
LEFT JOIN customers c
ON c.id = coalesce(i.customer_id, CASE WHEN l.email_key IS NULL THEN l.id END)
LEFT JOIN customers t ON t.id = l.id
LEFT JOIN erased e ON c.id IS NULL
    AND e.email_hash = sha256((SELECT salt FROM installation) || convert_to(l.email_key, 'UTF8'))
