"""Segment changes are a chain, their facts follow the rules, their numbers are in order (5)."""

from sqlalchemy import TextClause, text

from service.core.segment_event import Cause
from service.db.operations.verify.findings import REBUILD, RESTORE, Check
from service.db.segments.rules_sql import limit_columns, segment_sql

_CHAIN = text("""
WITH linked AS (
  SELECT customer_id, sequence, previous, segment, id, publish_number,
         row_number() OVER history AS expected, lag(segment) OVER history AS before,
         lead(sequence) OVER history IS NULL AS is_last,
         lag(id) OVER history AS id_before, lag(publish_number) OVER history AS number_before,
         lag(changed_at) OVER history IS NOT NULL AND lag(publish_number) OVER history IS NULL
           AS is_numbered_first
  FROM segment_changes WINDOW history AS (PARTITION BY customer_id ORDER BY sequence)
)
SELECT h.customer_id AS customer, h.sequence, h.expected, h.previous, h.before,
       h.segment, c.segment AS now, c.segment_sequence, h.publish_number
FROM linked h LEFT JOIN customers c ON c.id = h.customer_id
WHERE h.sequence <> h.expected OR h.previous IS DISTINCT FROM h.before
   OR h.previous = h.segment
   OR h.is_last AND (c.segment <> h.segment OR c.segment_sequence <> h.sequence)
   OR h.id <= h.id_before
   OR h.publish_number <= h.number_before
   OR h.publish_number IS NOT NULL AND h.is_numbered_first
LIMIT :most
""")
_NO_HISTORY = text("""
SELECT c.id AS customer, c.segment AS now, c.segment_sequence
FROM customers c LEFT JOIN segment_changes h ON h.customer_id = c.id AND h.sequence = 1
WHERE h.id IS NULL AND NOT EXISTS (SELECT FROM segment_changes WHERE customer_id = c.id)
LIMIT :most
""")
JUDGED_AGAIN = f"""
SELECT h.*, l.version, l.auto_segmentation, {segment_sql("h", "l")} AS by_rules
FROM segment_changes h LEFT JOIN LATERAL (
  SELECT version, auto_segmentation, precedence, {limit_columns("h.changed_at")}
  FROM settings WHERE version = h.settings_version
) l ON true"""
"""A query for all changes, each judged again by its own facts, settings and moment."""
# A person may give any segment, and a rebuild may have to announce one that is not by the rules.
_RULED = ", ".join(f"'{cause}'" for cause in (Cause.ORDER, Cause.IMPORT, Cause.TIME, Cause.RULES))
_BY_RULES = f"(cause IN ({_RULED}) AND auto_segmentation)"
CONFIRMED = f"({_BY_RULES} AND by_rules = segment)"
"""The condition that the facts of a change of `JUDGED_AGAIN` confirm its segment."""
_CONTRADICTIONS = text(f"""
SELECT customer_id AS customer, sequence, cause, segment, by_rules, total_orders, total_spent,
       last_order_date, changed_at, settings_version
FROM ({JUDGED_AGAIN}) h
WHERE version IS NULL
   OR (total_orders = 0) <> (last_order_date IS NULL) OR total_orders < 0 OR total_spent < 0
   OR {_BY_RULES} AND by_rules <> segment
LIMIT :most
""")


def relay_check(relay: str, outbox: str) -> TextClause:
    """Return a query for the numbers of a relay that do not fit its outbox."""
    return text(f"""
SELECT r.numbered, r.published, r.trimmed, n.highest
FROM (SELECT true AS one) single
LEFT JOIN {relay} r ON true
CROSS JOIN (SELECT coalesce(max(publish_number), 0) AS highest FROM {outbox}) n
WHERE r.numbered IS NULL OR r.trimmed > r.published
   OR r.numbered <> GREATEST(n.highest, r.published)
""")


HISTORY = (
    Check(
        "a segment change does not continue the one before it, or the customer is elsewhere",
        f"{REBUILD} It does not rewrite what subscribers were told, and names what is left.",
        _CHAIN,
    ),
    Check("a customer has no segment change", REBUILD, _NO_HISTORY),
    Check("a segment change contradicts its own facts and settings", RESTORE, _CONTRADICTIONS),
    Check(
        "the relay's numbers do not fit the history",
        RESTORE,
        relay_check("relay", "segment_changes"),
    ),
)
