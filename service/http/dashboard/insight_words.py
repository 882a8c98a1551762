"""The words of the predictions: what a list is for, how far to trust a model, what to expect."""

from datetime import timedelta
from typing import NamedTuple

from service.core.lapse import Lapse
from service.core.outlook import NEAR_DAYS, Outlook, Verdict
from service.core.segment_rules import Segment
from service.core.store_days import day_of
from service.core.work_lists import (
    LAPSING_DAYS,
    OVERDUE_CHANCE,
    QUIET_CHANCE,
    SECOND_ORDER_DAYS,
    WorkList,
)
from service.db.outlook.models import StoredModel
from service.db.store_clock import StoreClock
from service.http.dashboard.formats import Formats


class ListWords(NamedTuple):
    """What a work list is called, and why its customers are on it."""

    title: str
    why: str


def filter_of(name: WorkList, top: float) -> dict[str, str]:
    """Return the filter of the list of customers that chooses those of a work list.

    ``top`` is what is expected of the customers of the best fifth.
    """
    worth = {"expectedValueFrom": f"{top:.2f}"}
    return {
        WorkList.LAPSING: {"lapsesWithin": str(LAPSING_DAYS)},
        WorkList.OVERDUE: {"overdue": "yes", "chanceFrom": f"{OVERDUE_CHANCE:g}"},
        WorkList.WIN_BACK: {"segment": f"{Segment.AT_RISK},{Segment.INACTIVE}", **worth},
        WorkList.QUIET_VIPS: {"segment": Segment.VIP.value, "chanceTo": f"{QUIET_CHANCE:g}"},
        WorkList.SECOND_ORDER: {
            "ordersFrom": "1",
            "ordersTo": "1",
            "lastOrderWithin": str(SECOND_ORDER_DAYS),
            **worth,
        },
    }[name]


LISTS = {
    WorkList.LAPSING: ListWords(
        f"Lapsing in {LAPSING_DAYS} days",
        "By your rules they become at risk or inactive, unless they order before.",
    ),
    WorkList.OVERDUE: ListWords(
        "Overdue",
        "They have been silent for longer than is usual for them, and may still order "
        f"(a chance of {OVERDUE_CHANCE:.0%} or more).",
    ),
    WorkList.WIN_BACK: ListWords(
        "Worth winning back",
        "At risk or inactive, and among the fifth of whom most is expected.",
    ),
    WorkList.QUIET_VIPS: ListWords(
        "VIPs going quiet",
        f"VIPs with a chance below {QUIET_CHANCE:.0%} to order within {NEAR_DAYS} days.",
    ),
    WorkList.SECOND_ORDER: ListWords(
        "Second order due",
        f"They ordered once in the last {SECOND_ORDER_DAYS} days, and are among the fifth of whom "
        "most is expected.",
    ),
}

_ADVICE = {
    Verdict.GOOD: "You can rely on these figures.",
    Verdict.FAIR: "Take these figures as a rough guide.",
    Verdict.POOR: "Do not rely on these figures. No money is shown, and the lists may have the "
    "wrong people on top.",
}
_WORTH_SAYING = 0.005
"""A smaller error of the orders is not mentioned."""


def verdict_sentence(model: StoredModel, f: Formats) -> str:
    """Return how far the figures can be trusted, in a sentence or three."""
    test = model.fitted and model.fitted.hold_out
    if not test:
        return (
            "Not yet tested on your own past: too few customers had ordered 90 days ago, or too "
            "few have ordered since. No money is shown until then."
        )
    said, came = (f.number(round(it)) for it in (test.orders.said, test.orders.came))
    exact = f"For the last {round(test.days)} days, {said} orders were expected, and {came} came"
    off = test.orders.error
    if abs(off) >= _WORTH_SAYING:
        exact += f": {f.percent(abs(off) * 100)} too {'many' if off > 0 else 'few'} were expected"
    if model.verdict is not Verdict.GOOD:
        exact += f". Chances were off by {f.points(100 * test.band_error)} points on average"
    return f"{exact}. {_ADVICE[model.verdict]}"


def outlook_sentences(
    outlook: Outlook, lapse: Lapse | None, clock: StoreClock, f: Formats, *, money: bool
) -> list[str]:
    """Return what is expected of a customer, as a person would say it.

    ``lapse`` is said if it is near, or comes before the next order is expected.
    """
    today = clock.today
    hundred = round(100 * outlook.chance)
    often = "Fewer than 1" if hundred == 0 else f"About {hundred}"
    sentences = [f"{often} of 100 customers like this order within {NEAR_DAYS} days."]
    orders = f.points(round(outlook.orders, 1))
    if orders == f.points(0):
        sentences.append("Hardly any order is expected in 12 months.")
    else:
        worth = f", {f.whole_money(outlook.value)}" if money else ""
        unit = "order" if orders == f.points(1) else "orders"
        sentences.append(f"Expected in 12 months: {orders} {unit}{worth}.")
    if outlook.overdue_on and outlook.overdue_on < today:
        since = f.day(outlook.overdue_on)
        sentences.append(f"Overdue since {since}: silent for longer than is usual for them.")
    elif outlook.expected_on and outlook.expected_on >= today:
        unusual = f"; unusual after {f.day(outlook.overdue_on)}" if outlook.overdue_on else ""
        sentences.append(f"Next order around {f.day(outlook.expected_on)}{unusual}.")
    elif outlook.overdue_on:
        sentences.append(f"Silence is unusual after {f.day(outlook.overdue_on)}.")
    if lapse:
        early = outlook.expected_on and today <= day_of(lapse.at, clock.zone) < outlook.expected_on
        if early or lapse.at <= clock.now + timedelta(days=LAPSING_DAYS):
            before = ", before the next order is expected" if early else ""
            label = lapse.segment.label
            sentences.append(f"By your rules they become {label} on {f.day(lapse.at)}{before}.")
    return sentences
