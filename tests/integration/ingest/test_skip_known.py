"""What is applied already is left out of a batch when somebody asks, and the end is the same."""

from consumers.applier import Applier, Inbox
from consumers.orders import judge_all
from service.core.batch import Outcome
from tests.conftest import Service
from tests.events import entry


async def test_an_order_that_named_nobody_we_knew_is_not_a_repeat_once_we_know_them(
    service: Service,
) -> None:
    early = entry("ORD-1", customer={"id": "CUST-1001"})
    await service.ingest(early)
    await service.ingest(entry("ORD-2", email="jane@x.org"))
    await service.ingest(early, repeats_expected=True)
    (order,) = await service.rows("SELECT customer_id FROM orders WHERE id = 'ORD-1'")
    assert order["customer_id"] == 1001


async def test_only_the_event_that_is_the_orders_state_is_left_out(service: Service) -> None:
    first = entry("ORD-1", email="jane@x.org", status="pending")
    second = entry("ORD-1", email="jane@x.org", version=2)
    await service.ingest(second)
    again = await service.ingest(second, second, first, entry("ORD-2"), repeats_expected=True)
    assert again == {Outcome.DUPLICATE: 2, Outcome.STALE: 1, Outcome.APPLIED: 1}
    assert await service.findings() == []


async def test_a_worker_asks_after_a_batch_of_repeats_until_there_are_none(
    service: Service,
) -> None:
    applier = Applier(service.config, service.engine, service.redis, Inbox())
    events = {name: entry(name, email=f"{name}@x.org") for name in ("a", "b", "c", "d")}

    async def looks_at_customers() -> int:
        await service.engine.dispose()  # an ended session has told of what it did
        (seen,) = await service.rows(
            "SELECT idx_scan FROM pg_stat_user_tables WHERE relname = 'customers'"
        )
        return int(seen["idx_scan"])

    async def cost_of(*orders: str) -> int:
        before = await looks_at_customers()
        await applier.apply(judge_all([events[order] for order in orders], service.config))
        return await looks_at_customers() - before

    assert await cost_of("a", "b", "c") > 0
    assert await cost_of("a", "b", "c") > 0  # only now does it know
    assert await cost_of("a", "b", "c") == 0
    assert await cost_of("a", "d") > 0
    assert await cost_of("a", "b", "c") > 0
    (counted,) = await service.rows(
        "SELECT sum(applied) AS applied, sum(duplicate) AS duplicate FROM ingest_counters"
    )
    assert (counted["applied"], counted["duplicate"]) == (4, 10)
