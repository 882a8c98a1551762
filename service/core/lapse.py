"""When silence moves a customer down: to at risk, or to inactive.

`service.db.segments.rules_sql.lapsing_sql` says the same of all customers in SQL.
"""

from datetime import datetime, timedelta
from typing import NamedTuple

from service.core.segment_rules import AGE_LIMITS, Facts, Segment, SegmentSettings, segment_of

LAPSED = (Segment.AT_RISK, Segment.INACTIVE)


class Lapse(NamedTuple):
    """The segment that a customer gets if they do not order, and when."""

    segment: Segment
    at: datetime


def lapse_of(
    facts: Facts,
    settings: SegmentSettings,
    now: datetime,
    segment: str,
    free_from: datetime | None,
) -> Lapse | None:
    """Return when silence alone moves a customer down from their segment. None if it never does.

    ``free_from`` is when a hold set by hand ends, ``now`` if there is none. None: it does not end
    without another order.
    """
    if (
        not settings.auto_segmentation
        or free_from is None
        or facts.last_order_date is None
        or segment == Segment.INACTIVE
    ):
        return None
    begins = max(now, free_from)
    ages = (timedelta(days=getattr(settings, setting)) for setting in AGE_LIMITS.values())
    for at in sorted([begins, *(facts.last_order_date + age for age in ages)]):
        then = segment_of(facts, settings, at)
        if at >= begins and then in LAPSED and then != segment:
            return Lapse(then, at)
    return None
