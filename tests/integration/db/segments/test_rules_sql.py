"""Postgres, Python and a plain third implementation of the segment rules agree."""

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import text

from service.core.segment_rules import Facts, Precedence, SegmentSettings, segment_of
from service.db.segments.rules_sql import limit_columns, segment_sql
from tests.conftest import Service
from tests.unit.core.test_segment_rules import around_the_edges, naive

Case = tuple[Facts, SegmentSettings, datetime]

_EVALUATE = f"""
WITH cases AS (
  SELECT * FROM unnest(
    CAST(:orders AS integer[]), CAST(:spent AS numeric[]), CAST(:last AS timestamptz[]),
    CAST(:now AS timestamptz[]), CAST(:precedence AS text[]), CAST(:vip_orders AS integer[]),
    CAST(:vip_spent AS numeric[]), CAST(:at_risk AS integer[]), CAST(:inactive AS integer[])
  ) WITH ORDINALITY AS t(total_orders, total_spent, last_order_date, now, precedence,
    vip_order_count, vip_total_spent, at_risk_days, inactive_days, place)
)
SELECT {segment_sql("f", "l")} AS segment
FROM cases f CROSS JOIN LATERAL (
  SELECT f.precedence, {limit_columns("f.now")}
) l ORDER BY f.place
"""


async def by_postgres(service: Service, cases: list[Case], zone: str) -> list[str]:
    columns: dict[str, Any] = {
        "orders": [facts.total_orders for facts, _, _ in cases],
        "spent": [facts.total_spent for facts, _, _ in cases],
        "last": [facts.last_order_date for facts, _, _ in cases],
        "now": [now for _, _, now in cases],
        "precedence": [settings.precedence.value for _, settings, _ in cases],
        "vip_orders": [settings.vip_order_count for _, settings, _ in cases],
        "vip_spent": [settings.vip_total_spent for _, settings, _ in cases],
        "at_risk": [settings.at_risk_days for _, settings, _ in cases],
        "inactive": [settings.inactive_days for _, settings, _ in cases],
    }
    async with service.engine.connect() as connection:
        await connection.execute(text(f"SET LOCAL TIME ZONE '{zone}'"))
        return list((await connection.execute(text(_EVALUATE), columns)).scalars())


def some_settings(rng: random.Random) -> SegmentSettings:
    at_risk = rng.randint(1, 200)
    return SegmentSettings(
        vip_order_count=rng.randint(1, 6),
        vip_total_spent=Decimal(rng.randint(0, 100_000)) / 100,
        at_risk_days=at_risk,
        inactive_days=at_risk + rng.randint(1, 200),
        precedence=rng.choice(list(Precedence)),
    )


def some_moment(rng: random.Random) -> datetime:
    start = datetime(2020, 1, 1, tzinfo=UTC)
    return start + timedelta(microseconds=rng.randrange(10 * 365 * 86_400 * 10**6))


async def assert_same(service: Service, cases: list[Case]) -> None:
    in_python = [segment_of(*case).value for case in cases]
    assert in_python == [naive(*case) for case in cases]
    for zone in ("UTC", "America/New_York"):
        in_postgres = await by_postgres(service, cases, zone)
        different = [
            (case, python, postgres)
            for case, python, postgres in zip(cases, in_python, in_postgres, strict=True)
            if python != postgres
        ]
        assert different == []
    assert set(in_python) == {"new", "returning", "vip", "at_risk", "inactive"}


async def test_postgres_and_python_agree_around_every_limit(migrated: Service) -> None:
    settings = [SegmentSettings(precedence=precedence) for precedence in Precedence]
    rng = random.Random(1)
    settings += [some_settings(rng) for _ in range(60)]
    cases = [
        (facts, each, now)
        for each in settings
        for now in [some_moment(rng)]
        for facts in around_the_edges(each, now)
    ]
    assert len(cases) > 8000
    await assert_same(migrated, cases)


async def test_postgres_and_python_agree_for_any_other_facts(
    migrated: Service, rng: random.Random
) -> None:
    cases: list[Case] = []
    for _ in range(5000):
        now = some_moment(rng)
        orders = rng.randint(0, 8)
        last = now - timedelta(microseconds=rng.randrange(500 * 86_400 * 10**6)) if orders else None
        spent = Decimal(rng.randint(0, 150_000)) / 100 if orders else Decimal(0)
        cases.append((Facts(orders, spent, last), some_settings(rng), now))
    await assert_same(migrated, cases)
