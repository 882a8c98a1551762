"""Endpoints are not sent less than there is (6).

A cursor beyond every publish number that was given would leave out events. It may be beyond what
the stream has: if Redis lost events, the relay publishes them again.
"""

from sqlalchemy import text

from service.db.customers.removals import REMOVALS
from service.db.operations.verify.findings import Check
from service.db.segments.change_outbox import CHANGES

_AHEAD = text(f"""
SELECT e.id AS endpoint, e.change_cursor, c.numbered AS changes, e.removal_cursor,
  r.numbered AS removals
FROM endpoints e, {CHANGES.relay} c, {REMOVALS.relay} r
WHERE e.change_cursor > c.numbered OR e.removal_cursor > r.numbered
LIMIT :most
""")

ENDPOINTS = (
    Check(
        "the cursor of an endpoint is beyond everything that was published",
        "`crm hooks replay ID --from TIME` sends it everything since a time again.",
        _AHEAD,
    ),
)
