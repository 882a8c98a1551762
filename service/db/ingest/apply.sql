-- Apply a batch: write the orders, then fold what changed into customers, segments and counters.
-- The greater key wins in every register, so events may come twice, late or in several batches.
-- One statement, because all of it must see one snapshot, taken after the customers were locked.
WITH
counting AS MATERIALIZED (
  SELECT count_from, count_free_orders, time_zone FROM settings ORDER BY version DESC LIMIT 1
),
told AS (
  SELECT *, total_cents * 0.01 AS total, refunded_cents * 0.01 AS refunded
  FROM (
    SELECT CAST(u.id AS text) AS id, CAST(u.version AS bigint) AS version,
    CAST(u.updated_at AS timestamptz) AS updated_at, CAST(u.sent_at AS timestamptz) AS sent_at,
    CAST(u.event_id AS text) AS event_id, CAST(u.status AS text) AS status,
    CAST(u.payment_status AS text) AS payment_status, CAST(u.total_cents AS bigint) AS total_cents,
    CAST(u.refunded_cents AS bigint) AS refunded_cents,
    CAST(u.date_created AS timestamptz) AS date_created, CAST(u.currency AS text) AS currency,
    CAST(u.exchange_rate AS numeric) AS exchange_rate,
    CAST(u.most_refunded_cents AS bigint) AS most_refunded_cents,
    CAST(u.customer_id AS bigint) AS customer_id, CAST(u.identifier AS text) AS identifier,
    CAST(u.other_identifier AS text) AS other_identifier,
    CAST(u.named_version AS bigint) AS named_version, CAST(u.named_at AS timestamptz) AS named_at,
    CAST(u.named_sent_at AS timestamptz) AS named_sent_at,
    CAST(u.named_event_id AS text) AS named_event_id, CAST(u.erased AS boolean) AS erased
    FROM ROWS FROM (
        json_array_elements_text(CAST(:id AS json)),
        json_array_elements_text(CAST(:version AS json)),
        json_array_elements_text(CAST(:updated_at AS json)),
        json_array_elements_text(CAST(:sent_at AS json)),
        json_array_elements_text(CAST(:event_id AS json)),
        json_array_elements_text(CAST(:status AS json)),
        json_array_elements_text(CAST(:payment_status AS json)),
        json_array_elements_text(CAST(:total_cents AS json)),
        json_array_elements_text(CAST(:refunded_cents AS json)),
        json_array_elements_text(CAST(:date_created AS json)),
        json_array_elements_text(CAST(:currency AS json)),
        json_array_elements_text(CAST(:exchange_rate AS json)),
        json_array_elements_text(CAST(:most_refunded_cents AS json)),
        json_array_elements_text(CAST(:customer_id AS json)),
        json_array_elements_text(CAST(:identifier AS json)),
        json_array_elements_text(CAST(:other_identifier AS json)),
        json_array_elements_text(CAST(:named_version AS json)),
        json_array_elements_text(CAST(:named_at AS json)),
        json_array_elements_text(CAST(:named_sent_at AS json)),
        json_array_elements_text(CAST(:named_event_id AS json)),
        json_array_elements_text(CAST(:erased AS json))
    ) AS u(id, version, updated_at, sent_at, event_id, status, payment_status, total_cents,
    refunded_cents, date_created, currency, exchange_rate, most_refunded_cents, customer_id,
    identifier, other_identifier, named_version, named_at, named_sent_at, named_event_id,
    erased)) packed
),
incoming AS (
  SELECT id, version, updated_at, sent_at, event_id, status, payment_status, total, refunded,
      date_created, currency, exchange_rate,
      NOT ((status = 'cancelled') OR (coalesce(payment_status = 'failed', false))
      OR (CASE WHEN total > 0 THEN refunded >= total OR refunded = 0
      AND (status = 'refunded' OR coalesce(payment_status = 'refunded', false))
      ELSE (status = 'refunded' OR coalesce(payment_status = 'refunded', false)) END)
      OR (counting.count_from = 'paid'
      AND coalesce(payment_status NOT IN ('paid', 'partially_refunded', 'refunded'), true))
      OR (total = 0 AND NOT counting.count_free_orders)) AS counts,
    most_refunded_cents * 0.01 AS most_refunded,
    customer_id, identifier, other_identifier,
    coalesce(named_version, CASE WHEN identifier IS NOT NULL THEN version END) AS named_version,
    coalesce(named_at, CASE WHEN identifier IS NOT NULL THEN updated_at END) AS named_at,
    NULLIF(coalesce(named_sent_at, CASE WHEN identifier IS NOT NULL THEN sent_at END),
    coalesce(named_at, updated_at)) AS named_sent_at,
    coalesce(named_event_id, CASE WHEN identifier IS NOT NULL THEN event_id END) AS named_event_id,
    coalesce(erased, false) AS erased
  FROM told CROSS JOIN counting
),
profile AS (  -- the newest values that the batch has for each customer
  SELECT profile_customer, earliest_order, coalesce(newest_order, earliest_order) AS newest_order,
    name, coalesce(name_at, CASE WHEN name IS NOT NULL THEN profile_at END) AS name_at,
    coalesce(name_event, CASE WHEN name IS NOT NULL THEN profile_event END) AS name_event, phone,
    coalesce(phone_at, CASE WHEN phone IS NOT NULL THEN profile_at END) AS phone_at,
    coalesce(phone_event, CASE WHEN phone IS NOT NULL THEN profile_event END) AS phone_event,
    address, coalesce(address_at, CASE WHEN address IS NOT NULL THEN profile_at END) AS address_at,
    coalesce(address_event, CASE WHEN address IS NOT NULL THEN profile_event END) AS address_event,
    email, coalesce(email_at, CASE WHEN email IS NOT NULL THEN profile_at END) AS email_at,
    coalesce(email_event, CASE WHEN email IS NOT NULL THEN profile_event END) AS email_event
  FROM (
    SELECT CAST(u.profile_customer AS bigint) AS profile_customer,
    CAST(u.profile_at AS timestamptz) AS profile_at, CAST(u.profile_event AS text) AS profile_event,
    CAST(u.earliest_order AS timestamptz) AS earliest_order,
    CAST(u.newest_order AS timestamptz) AS newest_order, CAST(u.name AS text) AS name,
    CAST(u.name_at AS timestamptz) AS name_at, CAST(u.name_event AS text) AS name_event,
    CAST(u.phone AS text) AS phone, CAST(u.phone_at AS timestamptz) AS phone_at,
    CAST(u.phone_event AS text) AS phone_event, CAST(u.address AS jsonb) AS address,
    CAST(u.address_at AS timestamptz) AS address_at, CAST(u.address_event AS text) AS address_event,
    CAST(u.email AS text) AS email, CAST(u.email_at AS timestamptz) AS email_at,
    CAST(u.email_event AS text) AS email_event
    FROM ROWS FROM (
        json_array_elements_text(CAST(:profile_customer AS json)),
        json_array_elements_text(CAST(:profile_at AS json)),
        json_array_elements_text(CAST(:profile_event AS json)),
        json_array_elements_text(CAST(:earliest_order AS json)),
        json_array_elements_text(CAST(:newest_order AS json)),
        json_array_elements_text(CAST(:name AS json)),
        json_array_elements_text(CAST(:name_at AS json)),
        json_array_elements_text(CAST(:name_event AS json)),
        json_array_elements_text(CAST(:phone AS json)),
        json_array_elements_text(CAST(:phone_at AS json)),
        json_array_elements_text(CAST(:phone_event AS json)),
        json_array_elements_text(CAST(:address AS json)),
        json_array_elements_text(CAST(:address_at AS json)),
        json_array_elements_text(CAST(:address_event AS json)),
        json_array_elements_text(CAST(:email AS json)),
        json_array_elements_text(CAST(:email_at AS json)),
        json_array_elements_text(CAST(:email_event AS json))
    ) AS u(profile_customer, profile_at, profile_event, earliest_order, newest_order, name, name_at,
    name_event, phone, phone_at, phone_event, address, address_at, address_event, email, email_at,
    email_event)) packed
),
written AS (
  INSERT INTO orders AS o (id, version, updated_at, sent_at, event_id, status, payment_status,
      total, refunded, date_created, currency, exchange_rate, counts, customer_id, identifier,
      other_identifier, named_version, named_at, named_sent_at, named_event_id, erased,
      most_refunded, applied_at)
  SELECT id, version, updated_at, sent_at, event_id, status, payment_status, total, refunded,
      date_created, currency, exchange_rate, counts, customer_id, identifier, other_identifier,
      named_version, named_at, named_sent_at, named_event_id, erased, most_refunded,
      CAST(:now AS timestamptz)
  FROM incoming ORDER BY id COLLATE "C"
  ON CONFLICT (id) DO UPDATE SET
    version = CASE
    WHEN (excluded.version, excluded.updated_at, coalesce(excluded.sent_at, excluded.updated_at),
    excluded.event_id) > (o.version, o.updated_at, coalesce(o.sent_at, o.updated_at), o.event_id)
    THEN excluded.version ELSE o.version END,
    updated_at = CASE
    WHEN (excluded.version, excluded.updated_at, coalesce(excluded.sent_at, excluded.updated_at),
    excluded.event_id) > (o.version, o.updated_at, coalesce(o.sent_at, o.updated_at), o.event_id)
    THEN excluded.updated_at ELSE o.updated_at END,
    sent_at = CASE
    WHEN (excluded.version, excluded.updated_at, coalesce(excluded.sent_at, excluded.updated_at),
    excluded.event_id) > (o.version, o.updated_at, coalesce(o.sent_at, o.updated_at), o.event_id)
    THEN excluded.sent_at ELSE o.sent_at END,
    event_id = CASE
    WHEN (excluded.version, excluded.updated_at, coalesce(excluded.sent_at, excluded.updated_at),
    excluded.event_id) > (o.version, o.updated_at, coalesce(o.sent_at, o.updated_at), o.event_id)
    THEN excluded.event_id ELSE o.event_id END,
    status = CASE
    WHEN (excluded.version, excluded.updated_at, coalesce(excluded.sent_at, excluded.updated_at),
    excluded.event_id) > (o.version, o.updated_at, coalesce(o.sent_at, o.updated_at), o.event_id)
    THEN excluded.status ELSE o.status END,
    payment_status = CASE
    WHEN (excluded.version, excluded.updated_at, coalesce(excluded.sent_at, excluded.updated_at),
    excluded.event_id) > (o.version, o.updated_at, coalesce(o.sent_at, o.updated_at), o.event_id)
    THEN excluded.payment_status ELSE o.payment_status END,
    total = CASE
    WHEN (excluded.version, excluded.updated_at, coalesce(excluded.sent_at, excluded.updated_at),
    excluded.event_id) > (o.version, o.updated_at, coalesce(o.sent_at, o.updated_at), o.event_id)
    THEN excluded.total ELSE o.total END,
    refunded = CASE
    WHEN (excluded.version, excluded.updated_at, coalesce(excluded.sent_at, excluded.updated_at),
    excluded.event_id) > (o.version, o.updated_at, coalesce(o.sent_at, o.updated_at), o.event_id)
    THEN excluded.refunded ELSE o.refunded END,
    date_created = CASE
    WHEN (excluded.version, excluded.updated_at, coalesce(excluded.sent_at, excluded.updated_at),
    excluded.event_id) > (o.version, o.updated_at, coalesce(o.sent_at, o.updated_at), o.event_id)
    THEN excluded.date_created ELSE o.date_created END,
    currency = CASE
    WHEN (excluded.version, excluded.updated_at, coalesce(excluded.sent_at, excluded.updated_at),
    excluded.event_id) > (o.version, o.updated_at, coalesce(o.sent_at, o.updated_at), o.event_id)
    THEN excluded.currency ELSE o.currency END,
    exchange_rate = CASE
    WHEN (excluded.version, excluded.updated_at, coalesce(excluded.sent_at, excluded.updated_at),
    excluded.event_id) > (o.version, o.updated_at, coalesce(o.sent_at, o.updated_at), o.event_id)
    THEN excluded.exchange_rate ELSE o.exchange_rate END,
    counts = CASE
    WHEN (excluded.version, excluded.updated_at, coalesce(excluded.sent_at, excluded.updated_at),
    excluded.event_id) > (o.version, o.updated_at, coalesce(o.sent_at, o.updated_at), o.event_id)
    THEN excluded.counts ELSE o.counts END,
    most_refunded = NULLIF(GREATEST(o.most_refunded, o.refunded, excluded.most_refunded,
    excluded.refunded),
      CASE
      WHEN (excluded.version, excluded.updated_at, coalesce(excluded.sent_at, excluded.updated_at),
      excluded.event_id) > (o.version, o.updated_at, coalesce(o.sent_at, o.updated_at), o.event_id)
      THEN excluded.refunded ELSE o.refunded END),
    customer_id = CASE
    WHEN coalesce((excluded.named_version, excluded.named_at,
    coalesce(excluded.named_sent_at, excluded.named_at),
    excluded.named_event_id) > (o.named_version, o.named_at, coalesce(o.named_sent_at, o.named_at),
    o.named_event_id)
    OR (excluded.named_version, excluded.named_at,
    coalesce(excluded.named_sent_at, excluded.named_at),
    excluded.named_event_id) = (o.named_version, o.named_at, coalesce(o.named_sent_at, o.named_at),
    o.named_event_id) AND o.identifier IS NULL AND NOT o.erased, excluded.identifier IS NOT NULL)
    THEN excluded.customer_id ELSE o.customer_id END,
    identifier = CASE
    WHEN coalesce((excluded.named_version, excluded.named_at,
    coalesce(excluded.named_sent_at, excluded.named_at),
    excluded.named_event_id) > (o.named_version, o.named_at, coalesce(o.named_sent_at, o.named_at),
    o.named_event_id)
    OR (excluded.named_version, excluded.named_at,
    coalesce(excluded.named_sent_at, excluded.named_at),
    excluded.named_event_id) = (o.named_version, o.named_at, coalesce(o.named_sent_at, o.named_at),
    o.named_event_id) AND o.identifier IS NULL AND NOT o.erased, excluded.identifier IS NOT NULL)
    THEN excluded.identifier ELSE o.identifier END,
    other_identifier = CASE
    WHEN coalesce((excluded.named_version, excluded.named_at,
    coalesce(excluded.named_sent_at, excluded.named_at),
    excluded.named_event_id) > (o.named_version, o.named_at, coalesce(o.named_sent_at, o.named_at),
    o.named_event_id)
    OR (excluded.named_version, excluded.named_at,
    coalesce(excluded.named_sent_at, excluded.named_at),
    excluded.named_event_id) = (o.named_version, o.named_at, coalesce(o.named_sent_at, o.named_at),
    o.named_event_id) AND o.identifier IS NULL AND NOT o.erased, excluded.identifier IS NOT NULL)
    THEN excluded.other_identifier ELSE o.other_identifier END,
    named_version = CASE
    WHEN coalesce((excluded.named_version, excluded.named_at,
    coalesce(excluded.named_sent_at, excluded.named_at),
    excluded.named_event_id) > (o.named_version, o.named_at, coalesce(o.named_sent_at, o.named_at),
    o.named_event_id)
    OR (excluded.named_version, excluded.named_at,
    coalesce(excluded.named_sent_at, excluded.named_at),
    excluded.named_event_id) = (o.named_version, o.named_at, coalesce(o.named_sent_at, o.named_at),
    o.named_event_id) AND o.identifier IS NULL AND NOT o.erased, excluded.identifier IS NOT NULL)
    THEN excluded.named_version ELSE o.named_version END,
    named_at = CASE
    WHEN coalesce((excluded.named_version, excluded.named_at,
    coalesce(excluded.named_sent_at, excluded.named_at),
    excluded.named_event_id) > (o.named_version, o.named_at, coalesce(o.named_sent_at, o.named_at),
    o.named_event_id)
    OR (excluded.named_version, excluded.named_at,
    coalesce(excluded.named_sent_at, excluded.named_at),
    excluded.named_event_id) = (o.named_version, o.named_at, coalesce(o.named_sent_at, o.named_at),
    o.named_event_id) AND o.identifier IS NULL AND NOT o.erased, excluded.identifier IS NOT NULL)
    THEN excluded.named_at ELSE o.named_at END,
    named_sent_at = CASE
    WHEN coalesce((excluded.named_version, excluded.named_at,
    coalesce(excluded.named_sent_at, excluded.named_at),
    excluded.named_event_id) > (o.named_version, o.named_at, coalesce(o.named_sent_at, o.named_at),
    o.named_event_id)
    OR (excluded.named_version, excluded.named_at,
    coalesce(excluded.named_sent_at, excluded.named_at),
    excluded.named_event_id) = (o.named_version, o.named_at, coalesce(o.named_sent_at, o.named_at),
    o.named_event_id) AND o.identifier IS NULL AND NOT o.erased, excluded.identifier IS NOT NULL)
    THEN excluded.named_sent_at ELSE o.named_sent_at END,
    named_event_id = CASE
    WHEN coalesce((excluded.named_version, excluded.named_at,
    coalesce(excluded.named_sent_at, excluded.named_at),
    excluded.named_event_id) > (o.named_version, o.named_at, coalesce(o.named_sent_at, o.named_at),
    o.named_event_id)
    OR (excluded.named_version, excluded.named_at,
    coalesce(excluded.named_sent_at, excluded.named_at),
    excluded.named_event_id) = (o.named_version, o.named_at, coalesce(o.named_sent_at, o.named_at),
    o.named_event_id) AND o.identifier IS NULL AND NOT o.erased, excluded.identifier IS NOT NULL)
    THEN excluded.named_event_id ELSE o.named_event_id END,
    erased = o.erased OR excluded.erased,
    applied_at = excluded.applied_at
  WHERE (excluded.version, excluded.updated_at, coalesce(excluded.sent_at, excluded.updated_at),
      excluded.event_id) > (o.version, o.updated_at, coalesce(o.sent_at, o.updated_at), o.event_id)
      OR coalesce((excluded.named_version, excluded.named_at,
      coalesce(excluded.named_sent_at, excluded.named_at),
      excluded.named_event_id) > (o.named_version, o.named_at,
      coalesce(o.named_sent_at, o.named_at), o.named_event_id)
      OR (excluded.named_version, excluded.named_at,
      coalesce(excluded.named_sent_at, excluded.named_at),
      excluded.named_event_id) = (o.named_version, o.named_at,
      coalesce(o.named_sent_at, o.named_at), o.named_event_id) AND o.identifier IS NULL
      AND NOT o.erased, excluded.identifier IS NOT NULL) OR excluded.erased > o.erased
      OR coalesce(excluded.most_refunded, excluded.refunded) > GREATEST(o.most_refunded, o.refunded)
  RETURNING new.id,
    old.customer_id AS old_customer, old.counts AS old_counts,
    old.net AS old_net, old.date_created AS old_date,
    new.customer_id AS new_customer, new.counts AS new_counts,
    new.net AS new_net, new.date_created AS new_date,
    old.version AS was_version, old.updated_at AS was_updated_at, old.sent_at AS was_sent_at,
    old.event_id AS was_event_id, old.status AS was_status,
    old.payment_status AS was_payment_status, old.total AS was_total, old.refunded AS was_refunded,
    old.date_created AS was_date_created, old.currency AS was_currency,
    old.exchange_rate AS was_exchange_rate
),
effects AS (  -- what each written order takes from its old customer and gives to its new one
  SELECT old_customer AS customer_id, -1 AS orders, -old_net AS spent,
    CAST(NULL AS timestamptz) AS gained,
    NOT (new_counts AND new_customer IS NOT DISTINCT FROM old_customer
      AND new_date = old_date) AS lost
  FROM written WHERE old_counts AND old_customer IS NOT NULL
  UNION ALL
  SELECT new_customer, 1, new_net, new_date, false
  FROM written WHERE new_counts AND new_customer IS NOT NULL
),
effect AS (
  SELECT customer_id, sum(orders) AS orders, sum(spent) AS spent, min(gained) AS first_gained,
    max(gained) AS last_gained, bool_or(lost) AS lost
  FROM effects GROUP BY customer_id
),
remaining AS MATERIALIZED (  -- the other counted orders of customers who lost one: two probes each
  SELECT e.customer_id, o.first, o.last
  FROM effect e CROSS JOIN LATERAL (
    SELECT min(date_created) AS first, max(date_created) AS last FROM orders
    WHERE customer_id = e.customer_id AND counts AND id NOT IN (SELECT id FROM written)
  ) o
  WHERE e.lost
),
touched AS MATERIALIZED (  -- only locked customers: waiting for a lock here could deadlock
  (SELECT profile_customer AS customer_id FROM profile UNION SELECT customer_id FROM effect)
  INTERSECT (SELECT CAST(u.locked AS bigint) AS locked
      FROM json_array_elements_text(CAST(:locked AS json)) AS u(locked))
),
stored AS (
  SELECT c.* FROM touched CROSS JOIN LATERAL (
    SELECT ctid AS place, id, name, name_at, name_event, phone, phone_at, phone_event, address,
    address_at, address_event, email, email_at, email_event, email_key, date_created, total_orders,
    total_spent, first_order_date, last_order_date, segment, segment_sequence, segment_manual,
    segment_pinned, segment_pinned_until, segment_held_since FROM customers
    WHERE id = touched.customer_id OFFSET 0
  ) c
  UNION ALL
  SELECT NULL, new_customer, CAST(NULL AS text), CAST(NULL AS timestamptz), CAST(NULL AS text),
      CAST(NULL AS text), CAST(NULL AS timestamptz), CAST(NULL AS text), CAST(NULL AS jsonb),
      CAST(NULL AS timestamptz), CAST(NULL AS text), new_email, CAST(NULL AS timestamptz),
      CAST(NULL AS text), new_email, new_since, 0, 0, NULL, NULL, 'new', 0, false, false, NULL,
      NULL FROM (
    SELECT CAST(u.new_customer AS bigint) AS new_customer, CAST(u.new_email AS text) AS new_email,
    CAST(u.new_since AS timestamptz) AS new_since
    FROM ROWS FROM (
        json_array_elements_text(CAST(:new_customer AS json)),
        json_array_elements_text(CAST(:new_email AS json)),
        json_array_elements_text(CAST(:new_since AS json))
    ) AS u(new_customer, new_email, new_since)) new
),
after AS (
  SELECT c.place, c.id, c.segment, c.segment_manual, c.segment_pinned, c.segment_pinned_until,
    c.segment_held_since, GREATEST(p.newest_order, e.last_gained) AS newest_order,
    CASE
    WHEN coalesce((p.name_at, p.name_event) > (c.name_at, c.name_event), p.name_at IS NOT NULL)
    THEN p.name ELSE c.name END AS name,
    CASE
    WHEN coalesce((p.name_at, p.name_event) > (c.name_at, c.name_event), p.name_at IS NOT NULL)
    THEN p.name_at ELSE c.name_at END AS name_at,
    CASE
    WHEN coalesce((p.name_at, p.name_event) > (c.name_at, c.name_event), p.name_at IS NOT NULL)
    THEN p.name_event ELSE c.name_event END AS name_event,
    CASE
    WHEN coalesce((p.phone_at, p.phone_event) > (c.phone_at, c.phone_event),
    p.phone_at IS NOT NULL) THEN p.phone ELSE c.phone END AS phone,
    CASE
    WHEN coalesce((p.phone_at, p.phone_event) > (c.phone_at, c.phone_event),
    p.phone_at IS NOT NULL) THEN p.phone_at ELSE c.phone_at END AS phone_at,
    CASE
    WHEN coalesce((p.phone_at, p.phone_event) > (c.phone_at, c.phone_event),
    p.phone_at IS NOT NULL) THEN p.phone_event ELSE c.phone_event END AS phone_event,
    CASE
    WHEN coalesce((p.address_at, p.address_event) > (c.address_at, c.address_event),
    p.address_at IS NOT NULL) THEN p.address ELSE c.address END AS address,
    CASE
    WHEN coalesce((p.address_at, p.address_event) > (c.address_at, c.address_event),
    p.address_at IS NOT NULL) THEN p.address_at ELSE c.address_at END AS address_at,
    CASE
    WHEN coalesce((p.address_at, p.address_event) > (c.address_at, c.address_event),
    p.address_at IS NOT NULL) THEN p.address_event ELSE c.address_event END AS address_event,
    CASE
    WHEN coalesce((p.email_at, p.email_event) > (c.email_at, c.email_event),
    p.email_at IS NOT NULL) THEN p.email ELSE c.email END AS email,
    CASE
    WHEN coalesce((p.email_at, p.email_event) > (c.email_at, c.email_event),
    p.email_at IS NOT NULL) THEN p.email_at ELSE c.email_at END AS email_at,
    CASE
    WHEN coalesce((p.email_at, p.email_event) > (c.email_at, c.email_event),
    p.email_at IS NOT NULL) THEN p.email_event ELSE c.email_event END AS email_event,
    CASE
    WHEN coalesce((p.email_at, p.email_event) > (c.email_at, c.email_event),
    p.email_at IS NOT NULL) THEN p.email ELSE c.email_key END AS email_key,
    LEAST(c.date_created, p.earliest_order) AS date_created,
    CAST(c.total_orders + coalesce(e.orders, 0) AS integer) AS total_orders,
    c.total_spent + coalesce(e.spent, 0) AS total_spent,
    LEAST(CASE WHEN e.lost THEN r.first ELSE c.first_order_date END, e.first_gained)
    AS first_order_date,
    GREATEST(CASE WHEN e.lost THEN r.last ELSE c.last_order_date END, e.last_gained)
    AS last_order_date
  FROM stored c
  LEFT JOIN profile p ON p.profile_customer = c.id
  LEFT JOIN effect e ON e.customer_id = c.id
  LEFT JOIN remaining r ON r.customer_id = c.id
  WHERE (
      e.customer_id IS NOT NULL  -- if nothing of a customer is new, leave the row alone
      OR c.segment_sequence = 0
      OR p.earliest_order < c.date_created
      OR p.newest_order > c.segment_held_since
      OR coalesce((p.name_at, p.name_event) > (c.name_at, c.name_event), p.name_at IS NOT NULL)
      OR coalesce((p.phone_at, p.phone_event) > (c.phone_at, c.phone_event),
      p.phone_at IS NOT NULL)
      OR coalesce((p.address_at, p.address_event) > (c.address_at, c.address_event),
      p.address_at IS NOT NULL)
      OR coalesce((p.email_at, p.email_event) > (c.email_at, c.email_event), p.email_at IS NOT NULL)
  ) AND (  -- while we waited for the lock, staff gave the e-mail away: the batch runs again
      p.email IS NULL OR p.email IS NOT DISTINCT FROM c.email_key
      OR EXISTS (
      SELECT FROM identifiers WHERE identifier = 'email:' || p.email AND customer_id = c.id)
  )
),
limits AS (
  SELECT version, auto_segmentation, precedence,
    1 AS new_order_count, vip_order_count, vip_total_spent,
    CAST(:now AS timestamptz) - at_risk_days * interval '24 hours' AS at_risk_before,
    CAST(:now AS timestamptz) - inactive_days * interval '24 hours' AS inactive_before
  FROM settings ORDER BY version DESC LIMIT 1
),
judged AS (
  SELECT a.*, h.held,
    CASE WHEN h.held OR NOT l.auto_segmentation THEN a.segment
    ELSE CASE l.precedence
      WHEN 'recency_first' THEN
        CASE
        WHEN (a.last_order_date <= l.inactive_before) THEN 'inactive'
        WHEN (a.last_order_date <= l.at_risk_before) THEN 'at_risk'
        WHEN (a.total_orders >= l.vip_order_count OR a.total_spent >= l.vip_total_spent) THEN 'vip'
        WHEN (a.total_orders <= l.new_order_count) THEN 'new'
        ELSE 'returning'
      END
      WHEN 'value_first' THEN
        CASE
        WHEN (a.total_orders <= l.new_order_count) THEN 'new'
        WHEN (a.total_orders >= l.vip_order_count OR a.total_spent >= l.vip_total_spent) THEN 'vip'
        WHEN (a.last_order_date <= l.inactive_before) THEN 'inactive'
        WHEN (a.last_order_date <= l.at_risk_before) THEN 'at_risk'
        ELSE 'returning'
      END
    END
  END AS judged_segment
  FROM after a CROSS JOIN limits l CROSS JOIN LATERAL (
    SELECT a.segment_manual
      AND NOT (NOT a.segment_pinned
      AND coalesce(a.segment_pinned_until <= CAST(:now AS timestamptz),
      a.newest_order > a.segment_held_since, false)) AS held
  ) h
),
changed_rows AS (
  UPDATE customers c SET
    name = j.name, name_at = j.name_at, name_event = j.name_event, phone = j.phone,
    phone_at = j.phone_at, phone_event = j.phone_event, address = j.address,
    address_at = j.address_at, address_event = j.address_event, email = j.email,
    email_at = j.email_at, email_event = j.email_event,
    email_key = j.email_key,
    date_created = j.date_created, date_updated = CAST(:now AS timestamptz),
    total_orders = j.total_orders, total_spent = j.total_spent,
    first_order_date = j.first_order_date, last_order_date = j.last_order_date,
    segment = j.judged_segment,
    segment_sequence = c.segment_sequence
    + CAST(c.segment_sequence = 0 OR c.segment <> j.judged_segment AS integer),
    segment_manual = j.held,
    segment_pinned = j.held AND j.segment_pinned,
    segment_pinned_until = CASE WHEN j.held THEN j.segment_pinned_until END,
    segment_held_since = CASE WHEN j.held THEN j.segment_held_since END
  FROM judged j
  WHERE c.ctid = j.place  -- the row is locked, so it has not moved
  RETURNING c.id,
    old.segment AS old_segment, old.segment_sequence AS old_sequence,
    old.total_orders AS old_total_orders, old.total_spent AS old_total_spent,
    old.date_created AS old_created, new.date_created,
    new.segment, new.segment_sequence AS sequence, new.total_orders, new.total_spent,
    new.last_order_date,
    CASE WHEN old.segment_sequence = 0 OR old.name IS DISTINCT FROM new.name
    OR old.email IS DISTINCT FROM new.email OR old.phone IS DISTINCT FROM new.phone
    OR old.address ->> 'zip' IS DISTINCT FROM new.address ->> 'zip'
      THEN concat_ws(E'\x1f',
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
          AND i.identifier <> coalesce('email:' || new.email_key,
          ''))) END AS unfolded  -- NULL: it has not changed
),
new_rows AS (
  INSERT INTO customers (name, name_at, name_event, phone, phone_at, phone_event, address,
      address_at, address_event, email, email_at, email_event, email_key, id, date_created,
      date_updated,
      total_orders, total_spent, first_order_date, last_order_date, segment, segment_sequence)
  SELECT name, name_at, name_event, phone, phone_at, phone_event, address, address_at,
      address_event, email, email_at, email_event, email_key, id, date_created,
      CAST(:now AS timestamptz),
    total_orders, total_spent, first_order_date, last_order_date, judged_segment, 1
  FROM judged WHERE place IS NULL ORDER BY id
  RETURNING id, CAST(NULL AS text), 0, 0, 0.00, date_created, date_created, segment,
    segment_sequence, total_orders, total_spent, last_order_date, concat_ws(E'\x1f',
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
        AND i.identifier <> coalesce('email:' || new.email_key, '')))
),
updated AS (TABLE changed_rows UNION ALL TABLE new_rows),
search_rows AS (
  INSERT INTO customer_search (customer_id, searched)
  SELECT id, search_folded(unfolded) || E'\n\x1e' FROM updated
      WHERE unfolded IS NOT NULL ORDER BY id
  ON CONFLICT (customer_id) DO UPDATE SET searched = excluded.searched
),
history AS (
  INSERT INTO segment_changes (customer_id, sequence, previous, segment, cause,
      settings_version, total_orders, total_spent, last_order_date, changed_at)
  SELECT id, sequence, CASE WHEN old_sequence > 0 THEN old_segment END, segment, :cause,
  (SELECT version FROM limits), total_orders, total_spent, last_order_date,
    CAST(:now AS timestamptz)
  FROM updated WHERE sequence > old_sequence
  ORDER BY id
),
announced AS MATERIALIZED (
  SELECT pg_notify('segment_changes', '') FROM updated WHERE sequence > old_sequence LIMIT 1
),
difference AS (
  SELECT segment, sum(customers) AS customers, sum(total_spent) AS total_spent,
      sum(with_orders) AS with_orders, sum(repeat_customers) AS repeat_customers
  FROM (
    SELECT old_segment AS segment,
      -1 AS customers, -old_total_spent AS total_spent,
      -CAST(old_total_orders >= 1 AS integer) AS with_orders,
      -CAST(old_total_orders >= 2 AS integer) AS repeat_customers
    FROM updated WHERE old_sequence > 0
    UNION ALL
    SELECT segment, 1, total_spent, CAST(total_orders >= 1 AS integer),
    CAST(total_orders >= 2 AS integer)
    FROM updated
  ) sides
  GROUP BY segment
),
slot AS MATERIALIZED (  -- locks in one order, so that two writers of a slot cannot deadlock
  SELECT k.slot, k.segment FROM segment_counters k
  WHERE k.slot = pg_backend_pid() % 8
  ORDER BY k.segment FOR NO KEY UPDATE
),
counted AS (
  UPDATE segment_counters k SET
    customers = k.customers + d.customers, total_spent = k.total_spent + d.total_spent,
    with_orders = k.with_orders + d.with_orders,
    repeat_customers = k.repeat_customers + d.repeat_customers
  FROM slot s JOIN difference d USING (segment)
  WHERE k.slot = s.slot AND k.segment = s.segment
),
changed AS (
  INSERT INTO daily_changes AS d (day, slot, segment, customers, total_spent, with_orders,
      repeat_customers)
  SELECT CAST(CAST(:now AS timestamptz) AT TIME ZONE g.time_zone AS date), slot + 16 * g.generation,
      segment, customers, total_spent, with_orders, repeat_customers
  FROM slot JOIN difference USING (segment) CROSS JOIN daily_generations g
  ORDER BY g.generation, segment
  ON CONFLICT (day, slot, segment) DO UPDATE SET customers = d.customers + excluded.customers,
      total_spent = d.total_spent + excluded.total_spent,
      with_orders = d.with_orders + excluded.with_orders,
      repeat_customers = d.repeat_customers + excluded.repeat_customers
),
created AS (
  SELECT date_created AS at, 1 AS created, 0 AS orders, 0.00 AS revenue
  FROM updated WHERE old_sequence = 0 OR old_created <> date_created
  UNION ALL
  SELECT old_created, -1, 0, 0 FROM updated WHERE old_sequence > 0 AND old_created <> date_created
),
totalled AS (
  INSERT INTO daily_totals AS t (day, slot, created, orders, revenue)
  SELECT CAST(at AT TIME ZONE g.time_zone AS date) AS day,
      (SELECT min(slot) FROM slot) + 16 * g.generation, sum(created) AS created,
      sum(orders) AS orders, sum(revenue) AS revenue
  FROM (
    TABLE created
    UNION ALL SELECT new_date, 0, 1, new_net FROM written WHERE new_counts
    UNION ALL SELECT old_date, 0, -1, -old_net FROM written WHERE old_counts
  ) dated CROSS JOIN daily_generations g
  GROUP BY g.generation, day
  HAVING sum(created) <> 0 OR sum(orders) <> 0 OR sum(revenue) <> 0
  ORDER BY g.generation, day
  ON CONFLICT (day, slot) DO UPDATE SET created = t.created + excluded.created,
      orders = t.orders + excluded.orders, revenue = t.revenue + excluded.revenue
)
SELECT i.id, w.old_customer, k.was_version, k.was_updated_at, k.was_sent_at, k.was_event_id,
    k.was_status, k.was_payment_status, k.was_total, k.was_refunded, k.was_date_created,
    k.was_currency, k.was_exchange_rate
FROM (SELECT count(*) FROM announced) a CROSS JOIN incoming i
LEFT JOIN written w ON w.id = i.id
CROSS JOIN LATERAL (
  SELECT w.was_version, w.was_updated_at, w.was_sent_at, w.was_event_id, w.was_status,
      w.was_payment_status, w.was_total, w.was_refunded, w.was_date_created, w.was_currency,
      w.was_exchange_rate WHERE w.was_event_id IS NOT NULL
  UNION ALL
  SELECT o.version, o.updated_at, o.sent_at, o.event_id, o.status, o.payment_status, o.total,
      o.refunded, o.date_created, o.currency, o.exchange_rate FROM orders o
  WHERE w.id IS NULL AND o.id = i.id
) k
UNION ALL
SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
    FROM installation
WHERE (ids_replaced, reassignments) <>
(CAST(:ids_replaced AS bigint), CAST(:reassignments AS bigint))
