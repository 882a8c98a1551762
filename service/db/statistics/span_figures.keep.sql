-- Renew what statistics of chosen days are added up from: customers by amount, orders by pairs of days.
-- Both begin with a scan and a sort. Rows that are as they were are not written.
-- One statement, so that both tables are of one snapshot.
WITH kept_customers AS (
    MERGE INTO span_customers k USING (
    SELECT segment, orders, bucket, array_agg(date_created ORDER BY date_created) AS created,
      array_agg(so_far ORDER BY date_created) AS spent
    FROM (
      SELECT segment, orders, bucket, date_created, CAST(sum(cents) OVER (
            PARTITION BY segment, orders, bucket ORDER BY date_created ROWS UNBOUNDED PRECEDING
        ) AS bigint) AS so_far
      FROM (
        SELECT segment, CAST(LEAST(total_orders, 2) AS smallint) AS orders,
        CAST(floor(50 * ln(1 + CAST(total_spent AS double precision))) AS integer) AS bucket,
          date_created, CAST(total_spent * 100 AS bigint) AS cents
        FROM customers
      ) each
    ) added_up GROUP BY segment, orders, bucket) n
  ON k.segment = n.segment AND k.orders = n.orders AND k.bucket = n.bucket
  WHEN MATCHED AND (k.created, k.spent) IS DISTINCT FROM (n.created, n.spent)
    THEN UPDATE SET created = n.created, spent = n.spent
  WHEN NOT MATCHED BY SOURCE THEN DELETE
  WHEN NOT MATCHED THEN INSERT (segment, orders, bucket, created, spent)
    VALUES (n.segment, n.orders, n.bucket, n.created, n.spent)
)
  MERGE INTO span_orders k USING (
  SELECT day, CAST(sum(unattributed) AS bigint) AS unattributed,
    coalesce(array_agg(earlier ORDER BY earlier) FILTER (WHERE earlier IS NOT NULL), '{}')
    AS earlier,
    coalesce(array_agg(so_far ORDER BY earlier) FILTER (WHERE earlier IS NOT NULL), '{}')
    AS orders
  FROM (
    SELECT day, 0 AS unattributed, earlier,
      CAST(sum(count(*)) OVER (PARTITION BY day ORDER BY earlier) AS bigint) AS so_far
    FROM (
      SELECT day, lag(day, 1, '-infinity') OVER (PARTITION BY customer_id ORDER BY day) AS earlier
      FROM (
        SELECT customer_id,
        CAST(:first AS date) + width_bucket(date_created,
        CAST(:begins AS timestamptz[])) - 1 AS day FROM orders WHERE counts
        AND customer_id IS NOT NULL
      ) placed
    ) pairs GROUP BY day, earlier
    UNION ALL
    SELECT CAST(:first AS date) + width_bucket(date_created, CAST(:begins AS timestamptz[])) - 1,
    count(*), NULL, NULL
    FROM orders WHERE customer_id IS NULL AND NOT erased GROUP BY 1
  ) both_kinds GROUP BY day) n ON k.day = n.day
WHEN MATCHED AND (k.unattributed, k.earlier, k.orders)
  IS DISTINCT FROM (n.unattributed, n.earlier, n.orders)
  THEN UPDATE SET unattributed = n.unattributed, earlier = n.earlier, orders = n.orders
WHEN NOT MATCHED BY SOURCE THEN DELETE
WHEN NOT MATCHED THEN INSERT (day, unattributed, earlier, orders)
  VALUES (n.day, n.unattributed, n.earlier, n.orders)
