"""SQL that says whom an order belongs to, by the identifiers that named it."""

OWNER_OF_ORDER = """
coalesce(
  (SELECT i.customer_id FROM identifiers i WHERE i.identifier = o.identifier),
  (SELECT c.id FROM customers c WHERE o.identifier = 'customer:' || c.id),
  (SELECT i.customer_id FROM identifiers i WHERE i.identifier = o.other_identifier)
)"""
"""The customer whom the first identifier of ``orders o`` means that means somebody; else NULL."""

PREDECESSORS = """
(SELECT CAST(:id AS bigint) UNION ALL
 SELECT CAST(substr(identifier, 10) AS bigint) FROM identifiers
 WHERE customer_id = :id AND identifier LIKE 'customer:%')"""
"""The number ``:id``, and those of the customers who were merged into them."""

SAY_WHAT_NAMED = """
UPDATE orders o SET identifier = coalesce('email:' || c.email_key, 'customer:' || c.id)
FROM customers c WHERE c.id = ANY(:ids) AND o.customer_id = c.id AND o.identifier IS NULL
"""
"""Orders that an earlier release named do not say by what. It was the e-mail, if there is one."""
