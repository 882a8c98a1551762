"""The views that every shop has from its first day. They follow the settings in force."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.segment_rules import Segment, SegmentSettings
from service.db.customers.customer_filter import CustomerFilter
from service.db.customers.views.saved import View
from service.db.segments import rule_settings

_LAPSE_DAYS = 14
_ONCE_DAYS = 30


def of_settings(settings: SegmentSettings) -> Sequence[View]:
    """Return the views of a shop with these settings."""
    return [
        View(
            "lapsing-vips",
            f"VIPs who lapse within {_LAPSE_DAYS} days",
            CustomerFilter(segment=[Segment.VIP], lapses_within=_LAPSE_DAYS),
            "lastOrderDate",
            description=f"Their last order will be {settings.at_risk_days} days old by then.",
        ),
        View(
            "one-time-buyers",
            f"One-time buyers older than {_ONCE_DAYS} days",
            CustomerFilter(orders_from=1, orders_to=1, last_order_before=_ONCE_DAYS),
            "-lastOrderDate",
            description="They ordered once, and not in the last month.",
        ),
        View(
            "big-spenders-without-consent",
            "Big spenders without consent",
            CustomerFilter(
                spent_from=settings.vip_total_spent, email_opt_in=False, sms_opt_in=False
            ),
            "-totalSpent",
            description="They spent the amount for VIP, and agreed to neither e-mail nor SMS.",
        ),
        View(
            "no-email",
            "No e-mail",
            CustomerFilter(has_email=False),
            description="Nobody can write to them.",
        ),
    ]


async def ready_made(connection: AsyncConnection) -> Sequence[View]:
    """Return the views that every shop has, by the settings in force."""
    return of_settings((await rule_settings.current(connection)).settings)
