-- Create the identifiers that nobody has, and the new customers whom they name.
-- If another transaction is faster with an identifier, this one skips it.
-- One statement over the whole batch, in the order of the identifiers: so two cannot deadlock.
WITH named AS (
  SELECT CAST(u.identifier AS text) AS identifier, CAST(u.new_customer AS integer) AS new_customer,
      CAST(u.customer AS bigint) AS customer
  FROM ROWS FROM (
      json_array_elements_text(CAST(:identifier AS json)),
      json_array_elements_text(CAST(:new_customer AS json)),
      json_array_elements_text(CAST(:customer AS json))
  ) AS u(identifier, new_customer, customer)
),
fresh AS MATERIALIZED (
  SELECT new_customer, nextval('customers_id_seq') AS id
  FROM (SELECT DISTINCT new_customer FROM named WHERE customer IS NULL ORDER BY 1) numbered
),
created AS (
  INSERT INTO identifiers (identifier, customer_id)
  SELECT identifier, coalesce(customer, id) FROM named LEFT JOIN fresh USING (new_customer)
  ORDER BY identifier COLLATE "C"
  ON CONFLICT (identifier) DO NOTHING RETURNING identifier, customer_id
)
SELECT (SELECT array_agg(identifier) FROM created) AS created_identifier,
    (SELECT array_agg(customer_id) FROM created) AS created_customer_id
