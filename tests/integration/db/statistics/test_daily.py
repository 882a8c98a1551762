"""Figures by day: as they were known when a day ended, and by the dates of orders."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from service.core.segment_rules import Segment
from service.db.customers import editing
from service.db.figures import Figures, SegmentFigures
from service.db.statistics.daily import Total, figures_at, read_totals
from tests.conftest import Service
from tests.events import entry

DAY = timedelta(days=1)


async def nonzero_figures_at(service: Service, day: date) -> Figures | None:
    async with service.engine.connect() as connection:
        by_segment = await figures_at(connection, day)
    return by_segment and {
        segment: figures for segment, figures in by_segment.items() if any(figures)
    }


async def totals(service: Service, first: date) -> dict[date, Total]:
    async with service.engine.connect() as connection:
        return await read_totals(connection, first)


async def test_a_past_day_keeps_the_figures_known_when_it_ended(
    service: Service, now: datetime
) -> None:
    noon = datetime(now.year, now.month, now.day, 12, tzinfo=UTC) - 3 * DAY
    assert await nonzero_figures_at(service, noon.date()) is None
    await service.ingest(entry("A-1", email="a@x.org", total="10", created=noon), now=noon)
    await service.ingest(entry("B-1", email="b@x.org", total="600", created=noon), now=noon)
    midnight = datetime.combine((noon + DAY).date(), datetime.min.time(), UTC)
    # One microsecond makes the difference: the first event belongs to the day that ends, the second
    # to the day that begins.
    tick = timedelta(microseconds=1)
    await service.ingest(
        entry("A-2", email="a@x.org", total="5", created=noon), now=midnight - tick
    )
    await service.ingest(entry("A-3", email="a@x.org", total="2", created=noon), now=midnight)
    first, second = noon.date(), (noon + DAY).date()
    vip = SegmentFigures(1, Decimal(600), 1, 0)
    assert await nonzero_figures_at(service, first - DAY) is None
    assert await nonzero_figures_at(service, first) == {
        Segment.RETURNING: SegmentFigures(1, Decimal(15), 1, 1),
        Segment.VIP: vip,
    }
    assert await nonzero_figures_at(service, second) == {
        Segment.VIP: SegmentFigures(2, Decimal(617), 2, 1)
    }
    assert await nonzero_figures_at(service, second + DAY) == await nonzero_figures_at(
        service, second
    )
    (row,) = await service.rows("SELECT id FROM customers WHERE email_key = 'b@x.org'")
    async with service.engine.begin() as connection:
        await editing.delete(connection, "test", row["id"])
    assert (await nonzero_figures_at(service, second) or {})[Segment.VIP].customers == 2
    assert (await nonzero_figures_at(service, now.date() + DAY) or {})[Segment.VIP].customers == 1


async def test_totals_follow_orders_that_come_late_are_cancelled_or_get_another_date(
    service: Service,
) -> None:
    may = datetime(2026, 5, 10, 12, tzinfo=UTC)
    await service.ingest(
        entry("A-1", email="a@x.org", total="10", created=may),
        entry("A-2", email="a@x.org", total="20", created=may + DAY),
        entry("N-1", total="7", created=may),
    )
    first, second = may.date(), (may + DAY).date()
    assert await totals(service, first) == {
        first: Total(1, 2, Decimal(17)),
        second: Total(0, 1, Decimal(20)),
    }
    # An older order comes late, one is cancelled, and one gets the date of another day.
    await service.ingest(entry("A-0", email="a@x.org", total="1", created=may - DAY))
    await service.ingest(
        entry("A-1", email="a@x.org", version=2, total="10", created=may, status="cancelled"),
        entry("A-2", email="a@x.org", version=2, total="20", created=may + 2 * DAY),
    )
    every = await totals(service, date.min)
    assert {day: total for day, total in every.items() if any(total)} == {
        first - DAY: Total(1, 1, Decimal(1)),
        first: Total(0, 1, Decimal(7)),
        second + DAY: Total(0, 1, Decimal(20)),
    }
