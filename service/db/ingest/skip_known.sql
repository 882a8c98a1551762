-- Find the events of a batch that orders already have as their state, when a stream is read again.
-- Keys only rise, so what is true here stays true without a lock.
-- One statement: one index probe for each event, and one round trip.
SELECT e.place FROM (
  SELECT CAST(u.place AS integer) AS place, CAST(u.order_id AS text) AS order_id,
      CAST(u.version AS bigint) AS version, CAST(u.updated_at AS timestamptz) AS updated_at,
      CAST(u.sent_at AS timestamptz) AS sent_at, CAST(u.event_id AS text) AS event_id,
      CAST(u.names_customer AS boolean) AS names_customer
  FROM ROWS FROM (
      json_array_elements_text(CAST(:place AS json)),
      json_array_elements_text(CAST(:order_id AS json)),
      json_array_elements_text(CAST(:version AS json)),
      json_array_elements_text(CAST(:updated_at AS json)),
      json_array_elements_text(CAST(:sent_at AS json)),
      json_array_elements_text(CAST(:event_id AS json)),
      json_array_elements_text(CAST(:names_customer AS json))
  ) AS u(place, order_id, version, updated_at, sent_at, event_id, names_customer)) e
      CROSS JOIN LATERAL (
  SELECT version, updated_at, sent_at, event_id, identifier, named_event_id, erased
  FROM orders WHERE id = e.order_id OFFSET 0
) o
WHERE (o.version, o.updated_at, coalesce(o.sent_at, o.updated_at), o.event_id)
  = (e.version, e.updated_at, e.sent_at, e.event_id)
  AND (NOT e.names_customer OR o.erased
    OR (o.identifier IS NOT NULL AND o.named_event_id = e.event_id))
