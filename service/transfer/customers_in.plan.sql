-- Say what each line of a customers file would do: whose e-mail and id it has, and what differs.
-- It writes nothing, so a dry run says what the real run does.
-- One statement: it compares all lines of a chunk with one snapshot.
SELECT l.email_key, c.id, c.segment, e.erased_at, f.customer_id AS formerly,
  t.email_key AS taken_by,
  EXISTS (SELECT FROM segment_changes h WHERE h.customer_id = l.id) AS used,
  c.id IS NOT NULL AND (
    coalesce(l.name <> coalesce(c.name, ''), false)
    OR coalesce(l.phone <> coalesce(c.phone, ''), false)
    OR coalesce(l.notes <> c.notes, false)
    OR coalesce(l.date_created < c.date_created, false)) AS changes
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
  ) AS u(id, email_key, email, name, phone, notes, date_created)) l
LEFT JOIN customers c ON c.email_key = l.email_key
LEFT JOIN customers t ON t.id = l.id
LEFT JOIN former_emails f ON c.id IS NULL AND f.email_key = l.email_key
LEFT JOIN erased e ON c.id IS NULL
    AND e.email_hash = sha256((SELECT salt FROM installation) || convert_to(l.email_key, 'UTF8'))
