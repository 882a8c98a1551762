"""Events that are already applied are left out of a batch on request. The result is the same."""

from consumers.applier import Applier, Inbox
from consumers.orders import judge_all
from service.core.batch import Outcome
from tests.conftest import Service
from tests.events import entry


async def test_a_repeat_is_applied_if_its_customer_has_become_known_since(
    service: Service,
) -> None:
    early = entry("ORD-1", customer={"id": "CUST-1001"})
    await service.ingest(early)
    await service.ingest(entry("ORD-2", email="jane@x.org"))
    await service.ingest(early, repeats_expected=True)
    (order,) = await service.rows("SELECT customer_id FROM orders WHERE id = 'ORD-1'")
    assert order["customer_id"] == 1001


async def test_only_the_newest_event_of_an_order_is_left_out_as_a_repeat(service: Service) -> None:
    first = entry("ORD-1", email="jane@x.org", status="pending")
    second = entry("ORD-1", email="jane@x.org", version=2)
    await service.ingest(second)
    outcomes = await service.ingest(second, second, first, entry("ORD-2"), repeats_expected=True)
    assert outcomes == {Outcome.DUPLICATE: 2, Outcome.STALE: 1, Outcome.APPLIED: 1}
    assert await service.findings() == []


async def test_a_worker_leaves_repeats_out_only_after_a_batch_that_was_all_repeats(
    service: Service,
) -> None:
    applier = Applier(service.config, service.engine, service.redis, Inbox(service.config))
    events = {name: entry(name, email=f"{name}@x.org") for name in ("a", "b", "c", "d")}

    async def identifier_lookups() -> int:
        await service.engine.dispose()  # a session reports its statistics when it ends
        (table,) = await service.rows(
            "SELECT idx_scan FROM pg_stat_user_tables WHERE relname = 'identifiers'"
        )
        return int(table["idx_scan"])

    async def lookups_for(*orders: str) -> int:
        before = await identifier_lookups()
        await applier.apply(judge_all([events[order] for order in orders], service.config))
        return await identifier_lookups() - before

    assert await lookups_for("a", "b", "c") > 0
    assert (
        await lookups_for("a", "b", "c") > 0
    )  # this batch tells the worker that the next may be repeats
    assert await lookups_for("a", "b", "c") == 0
    assert await lookups_for("a", "d") > 0
    assert await lookups_for("a", "b", "c") > 0
    (counted,) = await service.rows(
        "SELECT sum(applied) AS applied, sum(duplicate) AS duplicate FROM ingest_counters"
    )
    assert (counted["applied"], counted["duplicate"]) == (4, 10)
