"""Why a customer is in a segment, and what would change it: the rules, read aloud."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from service.core.segment_rules import OTHERWISE, RULES, Facts, Segment, SegmentSettings, segment_of


def rule_text(segment: Segment, settings: SegmentSettings) -> str:
    """State a segment's rule with its present limits."""
    return {
        Segment.NEW: "at most one counted order",
        Segment.VIP: (
            f"{_orders(settings.vip_order_count)} or more, or "
            f"{settings.vip_total_spent:,.2f} spent or more"
        ),
        Segment.AT_RISK: f"last counted order {settings.at_risk_days} days ago or longer",
        Segment.INACTIVE: f"last counted order {settings.inactive_days} days ago or longer",
        Segment.RETURNING: "no other rule holds",
    }[segment]


def explain(facts: Facts, settings: SegmentSettings, now: datetime) -> dict[str, Any]:
    """Say what the rules make of a customer now, later, and after another order.

    ``upcoming`` is what time alone will do, ``needs`` what is missing to vip, and
    ``afterNextOrder`` where an order at this moment would take them.
    """
    segment = segment_of(facts, settings, now)
    limits = settings.limits(now)
    ordered = Facts(facts.total_orders + 1, facts.total_spent, now)
    return {
        "byRules": segment.value,
        "rule": rule_text(segment, settings),
        "rulesThatHold": [
            {"segment": candidate.value, "rule": rule_text(candidate, settings)}
            for candidate in Segment
            if candidate != OTHERWISE and RULES[candidate].holds(facts, limits)
        ],
        "needs": list(_needs(facts, settings, now)),
        "upcoming": list(_upcoming(facts, settings, now)),
        "afterNextOrder": segment_of(ordered, settings, now).value,
    }


def _needs(facts: Facts, settings: SegmentSettings, now: datetime) -> Iterator[dict[str, Any]]:
    if segment_of(facts, settings, now) == Segment.VIP:
        return
    orders = max(settings.vip_order_count - facts.total_orders, 1)
    amount = max(settings.vip_total_spent - facts.total_spent, Decimal(0))
    ways = [f"{orders} more {'order' if orders == 1 else 'orders'}"]
    if amount:
        ways.append(f"{amount:,.2f} more spent")
    yield {
        "segment": Segment.VIP.value,
        "orders": orders,
        "amount": amount,
        "text": f"{' or '.join(ways)} to {Segment.VIP}",
    }


def _upcoming(facts: Facts, settings: SegmentSettings, now: datetime) -> Iterator[dict[str, Any]]:
    if facts.last_order_date is None:
        return
    current = segment_of(facts, settings, now)
    for days in (settings.at_risk_days, settings.inactive_days):
        moment = facts.last_order_date + timedelta(days=days)
        then = segment_of(facts, settings, moment)
        if moment > now and then != current:
            yield {
                "segment": then.value,
                "at": moment,
                "text": f"{then} on {moment:%Y-%m-%d} unless they order",
            }
            current = then


def _orders(count: int) -> str:
    return "1 order" if count == 1 else f"{count} orders"
