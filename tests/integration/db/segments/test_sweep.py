"""Time alone moves customers: exactly when each is due, to the microsecond, and no others."""

import asyncio
from datetime import datetime, timedelta

import pytest

from consumers.orders import judge_all
from service.db.ingest.ingest import ingest
from service.db.segments.sweep import sweep
from tests.conftest import Service
from tests.events import cloud_event, entry
from tests.integration.db.ingest.test_model import entries, with_rules
from tests.integration.db.segments.sweeping import sweep_all, swept_until
from tests.model import Rules

TICK = timedelta(microseconds=1)
AT_RISK = timedelta(days=60)
INACTIVE = timedelta(days=90)


@pytest.fixture
def moment(now: datetime) -> datetime:
    """Return a moment shortly before now.

    The invariants are checked by the real clock when the test has ended, and must hold then.
    """
    return now - timedelta(seconds=10)


async def order(
    service: Service, email: str, created: datetime, judged_at: datetime, **fields: str
) -> None:
    await service.ingest(
        entry(f"ORD-{email}-{created}", email=email, created=created, **fields), now=judged_at
    )


async def segments(service: Service) -> dict[str, str]:
    rows = await service.rows("SELECT email_key, segment FROM customers")
    return {row["email_key"]: row["segment"] for row in rows}


async def changes_by_time(service: Service) -> list[tuple[str, str, str]]:
    rows = await service.rows(
        "SELECT email_key, previous, h.segment FROM segment_changes h"
        " JOIN customers c ON c.id = customer_id WHERE cause = 'time' ORDER BY h.id"
    )
    return [(row["email_key"], row["previous"], row["segment"]) for row in rows]


async def test_a_customer_is_at_risk_after_60_days_and_not_a_microsecond_before(
    service: Service, moment: datetime
) -> None:
    created = moment - AT_RISK
    await order(service, "a@x.org", created, moment - timedelta(hours=1))
    await swept_until(service, moment - timedelta(hours=1))
    assert await sweep_all(service, moment - TICK) == []
    assert await segments(service) == {"a@x.org": "new"}
    assert await sweep_all(service, moment) == [1]
    assert await segments(service) == {"a@x.org": "at_risk"}
    (change,) = await service.rows("SELECT * FROM segment_changes WHERE sequence = 2")
    assert (change["cause"], change["changed_at"]) == ("time", moment)
    assert (change["previous"], change["segment"]) == ("new", "at_risk")
    assert (change["total_orders"], change["last_order_date"]) == (1, created)


async def test_a_customer_is_first_at_risk_and_then_inactive(
    service: Service, moment: datetime
) -> None:
    created = moment - INACTIVE
    await order(service, "a@x.org", created, created)
    await swept_until(service, created)
    for days, segment in [(59, "new"), (60, "at_risk"), (89, "at_risk")]:
        await sweep_all(service, created + timedelta(days=days))
        assert await segments(service) == {"a@x.org": segment}
    await sweep_all(service, moment - TICK)
    assert await segments(service) == {"a@x.org": "at_risk"}
    await sweep_all(service, moment)
    assert await changes_by_time(service) == [
        ("a@x.org", "new", "at_risk"),
        ("a@x.org", "at_risk", "inactive"),
    ]


async def test_a_sweep_after_a_long_downtime_catches_up_at_once(
    service: Service, moment: datetime
) -> None:
    await order(service, "a@x.org", moment - AT_RISK, moment - timedelta(days=50))
    await order(service, "b@x.org", moment - INACTIVE - AT_RISK, moment - timedelta(days=140))
    await swept_until(service, moment - timedelta(days=145))
    assert await sweep_all(service, moment) == [2]
    assert await segments(service) == {"a@x.org": "at_risk", "b@x.org": "inactive"}
    (row,) = await service.rows("SELECT swept_until FROM sweep")
    assert row == {"swept_until": moment}


@pytest.mark.parametrize(("recency_first", "segment"), [(True, "at_risk"), (False, "vip")])
async def test_the_precedence_decides_whether_a_vip_becomes_at_risk(
    service: Service, moment: datetime, *, recency_first: bool, segment: str
) -> None:
    await with_rules(service, Rules(recency_first=recency_first))
    for days in (3, 2, 0):
        await order(
            service, "v@x.org", moment - AT_RISK - timedelta(days), moment - timedelta(hours=1)
        )
    await swept_until(service, moment - timedelta(hours=1))
    assert await segments(service) == {"v@x.org": "vip"}
    assert await sweep_all(service, moment) == ([1] if recency_first else [])
    assert await segments(service) == {"v@x.org": segment}


async def test_only_customers_who_are_due_are_written(service: Service, moment: datetime) -> None:
    before = moment - timedelta(hours=1)
    await order(service, "due@x.org", moment - AT_RISK, before)
    await order(service, "later@x.org", moment - AT_RISK + timedelta(minutes=10), before)
    await order(service, "earlier@x.org", moment - AT_RISK - timedelta(days=2), before)
    await order(service, "recent@x.org", before, before)
    # These two have an order that becomes 60 days old, but it is not the latest or does not count.
    await order(service, "again@x.org", moment - AT_RISK, before)
    await order(service, "again@x.org", before, before)
    await order(service, "gone@x.org", moment - AT_RISK, before, status="cancelled")
    await swept_until(service, before)
    rows = "SELECT email_key, CAST(c.xmin AS text) AS written FROM customers c"
    versions = {row["email_key"]: row["written"] for row in await service.rows(rows)}
    assert await sweep_all(service, moment) == [1]
    later = {row["email_key"]: row["written"] for row in await service.rows(rows)}
    assert {email for email in versions if versions[email] != later[email]} == {"due@x.org"}
    assert await changes_by_time(service) == [("due@x.org", "new", "at_risk")]


async def test_many_customers_are_moved_in_chunks(
    service: Service, moment: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.db.segments.sweep.CHUNK", 3)
    before = moment - timedelta(hours=1)
    for number in range(10):
        await order(service, f"{number}@x.org", moment - AT_RISK, before)
    await swept_until(service, before)
    assert await sweep_all(service, moment) == [3, 3, 3, 1]
    assert set((await segments(service)).values()) == {"at_risk"}


async def test_the_watermark_does_not_pass_customers_of_later_chunks(
    service: Service, moment: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.db.segments.sweep.CHUNK", 1)
    before = moment - timedelta(days=2)
    for number in range(2):
        await order(service, f"{number}@x.org", moment - AT_RISK - timedelta(days=1), before)
    await swept_until(service, before)
    async with service.engine.begin() as connection:
        assert await sweep(connection, moment) == (1, False)
    # The sweeper dies here; another one continues later.
    assert await sweep_all(service, moment + timedelta(seconds=5)) == [1]
    assert set((await segments(service)).values()) == {"at_risk"}


async def test_the_watermark_rises_with_the_chunks_because_they_are_sorted_by_moment(
    service: Service, moment: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a later chunk does not look at the customers of earlier chunks again."""
    monkeypatch.setattr("service.db.segments.sweep.CHUNK", 2)
    minute, before = timedelta(minutes=1), moment - timedelta(hours=1)
    due = [moment - number * minute for number in (50, 7, 40, 9, 3)]
    for number, when in enumerate(due):
        # Becoming inactive and becoming at risk are sorted together by moment.
        age = INACTIVE if number % 2 else AT_RISK
        await order(service, f"{number}@x.org", when - age, before)
    await swept_until(service, before)
    moved: list[set[str]] = []
    reached = []
    known: set[str] = set()
    for _ in range(3):
        async with service.engine.begin() as connection:
            assert not (await sweep(connection, moment)).finished
        (row,) = await service.rows("SELECT swept_until FROM sweep")
        reached.append(row["swept_until"])
        names = {email for email, _, _ in await changes_by_time(service)}
        moved.append(names - known)
        known = names
    assert moved == [{"0@x.org", "2@x.org"}, {"3@x.org", "1@x.org"}, {"4@x.org"}]
    assert reached == [moment - 40 * minute, moment - 7 * minute, moment]
    assert await sweep_all(service, moment) == []


async def test_several_sweeps_at_once_do_no_harm(
    service: Service, moment: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.db.segments.sweep.CHUNK", 5)
    before = moment - timedelta(hours=1)
    events = [
        cloud_event(f"ORD-{number}", email=f"{number}@x.org", created=moment - AT_RISK)
        for number in range(50)
    ]
    await service.ingest(*entries(events), now=before)
    await swept_until(service, before)
    moved = await asyncio.gather(*(sweep_all(service, moment) for _ in range(4)))
    assert sum(sum(each) for each in moved) <= 50
    await sweep_all(service, moment)
    assert len(await changes_by_time(service)) == 50
    assert set((await segments(service)).values()) == {"at_risk"}


async def test_only_one_worker_sweeps_at_a_time(service: Service, moment: datetime) -> None:
    await order(service, "a@x.org", moment - AT_RISK, moment - timedelta(hours=1))
    await swept_until(service, moment - timedelta(hours=1))
    async with service.engine.begin() as first, service.engine.begin() as second:
        assert await sweep(first, moment) == (1, False)
        assert await sweep(second, moment) == (0, True)
    assert await sweep_all(service, moment) == []
    assert await segments(service) == {"a@x.org": "at_risk"}


async def test_a_batch_that_commits_late_is_caught_by_the_overlap(
    service: Service, moment: datetime
) -> None:
    second = timedelta(seconds=1)
    await swept_until(service, moment - timedelta(hours=1))
    event = cloud_event("ORD-1", email="a@x.org", created=moment - AT_RISK)
    batch = judge_all(entries([event]), service.config)
    async with service.engine.begin() as slow:
        await ingest(slow, batch, moment - second)
        assert await sweep_all(service, moment + second) == []
    assert await segments(service) == {"a@x.org": "new"}
    assert await sweep_all(service, moment + 2 * second) == [1]
    assert await segments(service) == {"a@x.org": "at_risk"}


async def test_a_sweep_after_the_clock_was_set_back_ends_and_moves_nobody_early(
    service: Service, now: datetime
) -> None:
    """For example, the database moved to a host whose clock is half a minute behind."""
    await order(service, "a@x.org", now - AT_RISK + timedelta(seconds=20), now)
    await swept_until(service, now + timedelta(seconds=30))
    assert await sweep_all(service) == []
    assert await segments(service) == {"a@x.org": "new"}
    (row,) = await service.rows("SELECT swept_until FROM sweep")
    assert row == {"swept_until": now + timedelta(seconds=30)}


async def test_unattributed_orders_are_skipped(service: Service, moment: datetime) -> None:
    await service.ingest(entry("ORD-1", created=moment - AT_RISK), now=moment)
    await swept_until(service, moment - timedelta(hours=1))
    assert await sweep_all(service, moment) == []


async def test_a_watermark_in_the_future_makes_the_sweep_judge_everybody(
    service: Service, moment: datetime
) -> None:
    """The clock was ahead while a sweep ran, and nobody swept after it was set back."""
    created = moment - AT_RISK
    await order(service, "a@x.org", created, moment - timedelta(days=1))
    await order(service, "b@x.org", moment - timedelta(days=1), moment - timedelta(days=1))
    await swept_until(service, moment + timedelta(days=2))
    # Between the step of the clock and this sweep lies a day without a worker.
    assert await sweep_all(service, moment) == [1]
    assert await segments(service) == {"a@x.org": "at_risk", "b@x.org": "new"}
    (row,) = await service.rows("SELECT swept_until FROM sweep")
    assert row["swept_until"] == moment
    assert await sweep_all(service, moment) == []


async def test_customers_moved_too_early_by_a_clock_ahead_go_back(
    service: Service, moment: datetime
) -> None:
    ahead = timedelta(days=5)
    await order(service, "a@x.org", moment - timedelta(days=58), moment - timedelta(days=1))
    await swept_until(service, moment)
    assert await sweep_all(service, moment + ahead) == [1]
    assert await segments(service) == {"a@x.org": "at_risk"}
    assert await sweep_all(service, moment) == [1]
    assert await segments(service) == {"a@x.org": "new"}


async def test_a_clock_set_back_a_little_leaves_the_watermark_and_skips_nobody(
    service: Service, moment: datetime
) -> None:
    back, then = timedelta(seconds=100), moment - timedelta(days=1)
    await order(service, "a@x.org", then - AT_RISK + back / 2, then - timedelta(days=1))
    await swept_until(service, then + back)
    assert await sweep_all(service, then) == []
    (row,) = await service.rows("SELECT swept_until FROM sweep")
    assert row["swept_until"] == then + back
    # No worker runs until long after the customer is due.
    assert await sweep_all(service, then + timedelta(hours=3)) == [1]
    await swept_until(service, moment)
