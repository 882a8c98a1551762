"""Every customer who is gone was announced, and nobody else was (6)."""

from sqlalchemy import text

from service.db.operations.verify.findings import REBUILD, RESTORE, Check
from service.db.operations.verify.history import relay_check

UNANNOUNCED_SQL = """
SELECT a.customer_id AS customer, max(a.at) AS erased_at FROM audit a
WHERE a.action = 'customer.erased' AND a.customer_id IS NOT NULL
  AND NOT EXISTS (SELECT FROM customers c WHERE c.id = a.customer_id)
  AND NOT EXISTS (SELECT FROM removals r WHERE r.customer_id = a.customer_id)
GROUP BY a.customer_id"""
"""A query for the erased people who were not announced. A web process of an earlier release does
not announce."""
UNANNOUNCED = text(f"{UNANNOUNCED_SQL} ORDER BY customer LIMIT :most")
_GONE = text("""
SELECT h.customer_id AS customer, h.publish_number AS "firstPublishedAs" FROM segment_changes h
WHERE h.sequence = 1
  AND NOT EXISTS (SELECT FROM customers c WHERE c.id = h.customer_id)
  AND NOT EXISTS (SELECT FROM removals r WHERE r.customer_id = h.customer_id)
  AND NOT EXISTS (
    SELECT FROM audit a WHERE a.customer_id = h.customer_id AND a.action = 'customer.erased')
LIMIT :most
""")
_STILL_THERE = text("""
SELECT r.customer_id AS customer, r.reason, r.removed_at FROM removals r
WHERE EXISTS (SELECT FROM customers c WHERE c.id = r.customer_id) LIMIT :most
""")
_INTO_NOBODY = text("""
SELECT r.customer_id AS customer, r.merged_into FROM removals r
WHERE r.merged_into IS NOT NULL
  AND NOT EXISTS (SELECT FROM customers c WHERE c.id = r.merged_into)
  AND NOT EXISTS (SELECT FROM removals later WHERE later.customer_id = r.merged_into)
LIMIT :most
""")

REMOVALS = (
    Check("an erased person was not announced to subscribers", REBUILD, UNANNOUNCED),
    Check("a customer of the history is gone, and nothing says why", RESTORE, _GONE),
    Check("a customer exists who was announced as gone", RESTORE, _STILL_THERE),
    Check("a customer was merged into one who never was", RESTORE, _INTO_NOBODY),
    Check(
        "the relay's numbers do not fit the removals",
        RESTORE,
        relay_check("removals_relay", "removals"),
    ),
)
