"""The inbox splits batches into lanes, so that two transactions do not wait for each other."""

from consumers.applier import LANES, Inbox
from consumers.orders import judge_all
from service.config import Config
from service.core.envelope import Entry
from service.core.order_event import OrderEvent
from tests.events import entry

CONFIG = Config(database_url="postgresql://nowhere", redis_url="redis://nowhere")
CUSTOMERS = 16


async def taken(inbox: Inbox, *entries: Entry) -> dict[str, int]:
    """Put entries in and take them all. Return the lane of each event, by its e-mail."""
    await inbox.put(judge_all(entries, CONFIG), 0)
    lanes = dict[str, int]()
    for number, lane in enumerate(inbox.lanes):
        while not lane.empty():
            for _, event in lane.get_nowait().entries:
                assert isinstance(event, OrderEvent)
                assert event.customer
                lanes[event.customer.email or ""] = number
    return lanes


async def test_customers_are_spread_over_the_lanes_and_each_stays_in_one() -> None:
    inbox = Inbox(CONFIG)
    first = await taken(
        inbox, *(entry(f"A-{n}", email=f"c{n}@x.org") for n in range(CUSTOMERS * LANES))
    )
    second = await taken(
        inbox, *(entry(f"B-{n}", email=f"c{n}@x.org") for n in range(CUSTOMERS * LANES))
    )
    assert set(first.values()) == set(range(LANES))
    assert first == second


async def test_an_order_that_moves_stays_in_its_lane_until_it_is_applied() -> None:
    inbox = Inbox(CONFIG)
    emails = [f"c{n}@x.org" for n in range(CUSTOMERS)]
    own = await taken(Inbox(CONFIG), *(entry(email, email=email) for email in emails))

    await inbox.put(judge_all([entry("ORD-1", email=emails[0])], CONFIG), 0)
    lane = inbox.lanes[own[emails[0]]]
    parts = await inbox.take(lane)
    for version, email in enumerate(emails, 2):
        moved = await taken(inbox, entry("ORD-1", email=email, version=version))
        assert moved == {email: own[emails[0]]}

    inbox.done(lane, parts)
    other = next(email for email in emails if own[email] != own[emails[0]])
    assert await taken(inbox, entry("ORD-1", email=other, version=99)) == {other: own[other]}
