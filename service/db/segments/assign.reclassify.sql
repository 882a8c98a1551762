-- Assign the segments that rules and holds give to locked customers whose orders did not change.
-- The sweep, new settings and new customers use it; only the source differs from apply.sql.
-- One statement: row, history, outbox and counters change together or not at all.
WITH after AS (SELECT c.ctid AS place, c.*, CAST(NULL AS timestamptz) AS newest_order
    FROM customers c WHERE c.id = ANY(:ids)),
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
updated AS (
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
  FROM (TABLE created) dated CROSS JOIN daily_generations g
  GROUP BY g.generation, day
  HAVING sum(created) <> 0 OR sum(orders) <> 0 OR sum(revenue) <> 0
  ORDER BY g.generation, day
  ON CONFLICT (day, slot) DO UPDATE SET created = t.created + excluded.created,
      orders = t.orders + excluded.orders, revenue = t.revenue + excluded.revenue
)
SELECT count(*) FILTER (WHERE sequence > old_sequence) FROM updated
    CROSS JOIN (SELECT count(*) FROM announced) a
