"""An order's state is what its newest event says, changed by what the shop says by itself."""

from datetime import UTC, datetime, timedelta

import pytest

from service.core.order_event import EventKey, OrderEvent
from service.core.shop_facts import Refund, ShopFacts, with_facts

AT = datetime(2026, 5, 1, 12, tzinfo=UTC)
BEFORE, LATER = AT - timedelta(hours=1), AT + timedelta(hours=1)


def event(refunded: int = 0, status: str = "processing", payment: str = "paid") -> OrderEvent:
    return OrderEvent(
        order_id="#1",
        key=EventKey(0, AT, AT, "a"),
        profile_at=AT,
        status=status,
        payment_status=payment,
        total_cents=1000,
        refunded_cents=refunded,
        date_created=BEFORE,
        customer=None,
    )


@pytest.mark.parametrize(
    ("told", "refunds", "refunded"),
    [
        (0, [], 0),
        (0, [Refund(300, LATER)], 300),
        (0, [Refund(300, AT)], 300),  # the same second: nobody knows which was first
        (300, [Refund(300, AT)], 300),
        (300, [Refund(300, BEFORE)], 300),
        (300, [Refund(200, LATER)], 500),
        (300, [Refund(300, BEFORE), Refund(200, LATER)], 500),
        (300, [Refund(300, BEFORE), Refund(200, BEFORE)], 500),
        (500, [Refund(300, BEFORE), Refund(200, BEFORE)], 500),
        (700, [Refund(300, BEFORE)], 700),  # one of them was never told by itself
        (0, [Refund(1000, LATER)], 1000),
    ],
)
def test_refunds_are_counted_once(told: int, refunds: list[Refund], refunded: int) -> None:
    state = with_facts(event(told), ShopFacts(None, refunds))
    assert state.refunded_cents == refunded
    if refunded == told:
        assert state == event(told)
    else:
        assert state.payment_status == ("refunded" if refunded == 1000 else "partially_refunded")


def test_a_refund_in_words_means_the_whole_total() -> None:
    told = event(payment="refunded")
    assert with_facts(told, ShopFacts(None, [Refund(300, BEFORE)])) == told


@pytest.mark.parametrize(("deleted_at", "cancelled"), [(BEFORE, False), (AT, True), (LATER, True)])
def test_a_deletion_cancels_what_was_told_before(deleted_at: datetime, *, cancelled: bool) -> None:
    state = with_facts(event(), ShopFacts(deleted_at, []))
    assert (state.status == "cancelled") is cancelled


def test_a_state_wins_against_its_event_and_loses_against_a_later_one() -> None:
    one = with_facts(event(), ShopFacts(None, [Refund(300, LATER)]))
    both = with_facts(event(), ShopFacts(LATER, [Refund(300, LATER)]))
    later = event().but(key=EventKey(0, AT, AT + timedelta(milliseconds=1), ""))
    assert event().key < one.key < both.key < later.key
