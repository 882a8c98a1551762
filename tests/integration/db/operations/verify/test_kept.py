"""What must not change any more is remembered, and compared by the next verification (10)."""

from datetime import datetime

import pytest

from service.db.engine import in_transaction
from service.db.operations.out_streams import out_streams
from service.db.operations.status import note_verification
from service.db.operations.verify import verify
from tests.conftest import Service
from tests.integration.db.operations.verify.populated import populate


@pytest.fixture
async def verified(empty_service: Service, now: datetime) -> Service:
    await populate(empty_service, now)
    return empty_service


async def _broken(service: Service) -> list[str]:
    return [
        fault.what
        for finding in await service.findings()
        if finding.number == 10
        for fault in finding.faults
    ]


_CANCEL_OUT = """
UPDATE daily_changes d SET customers = d.customers + CASE WHEN d.day = f.first THEN 1 ELSE -1 END
FROM (SELECT segment, min(day) AS first, max(day) AS last FROM daily_changes
      WHERE day < current_date - 1 GROUP BY segment HAVING min(day) < max(day) LIMIT 1) f
WHERE d.segment = f.segment AND d.day IN (f.first, f.last)
"""


@pytest.mark.parametrize(
    ("damage", "changed"),
    [
        (_CANCEL_OUT, "figures of past days"),
        ("UPDATE segment_changes SET total_spent = 1 WHERE id = 1", "published segment changes"),
        (
            "UPDATE settings SET changed_by = changed_by || '.' WHERE version = 1",
            "versions of the settings",
        ),
        ("DELETE FROM audit WHERE id = 1", "the audit"),
        ("UPDATE audit SET actor = 'somebody else' WHERE id = 1", "the audit"),
    ],
)
async def test_rows_that_never_change_are_compared_with_the_last_verification(
    verified: Service, damage: str, changed: str
) -> None:
    await verified.execute(damage)
    (finding,) = [found for found in await verified.findings() if found.number == 10]
    assert [row["changed"] for row in finding.offenders] == [changed]


async def test_a_change_is_reported_until_it_is_accepted(verified: Service) -> None:
    await verified.execute("UPDATE settings SET changed_by = changed_by || '.' WHERE version = 1")
    for _ in range(2):
        report = await verified.verify()
        assert [finding.number for finding in report.broken] == [10]
        await in_transaction(verified.engine, note_verification, [10], report.remembered)
    config = verified.config
    accepted = await verify(
        verified.engine,
        verified.redis,
        orders=config.orders_streams,
        group=config.orders_group,
        published=out_streams(config),
        terms=config.terms,
        accept=True,
    )
    assert accepted.broken == []
    await in_transaction(verified.engine, note_verification, [], accepted.remembered)
    assert await verified.findings() == []


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        ("UPDATE dead_letters SET field_values[1] = 'other'", "bytes"),
        ("UPDATE dead_letters SET field_names[1] = 'other'", "bytes"),
        ("UPDATE dead_letters SET digest = sha256(digest)", "bytes"),
        ("UPDATE dead_letters SET partition = 4", "bytes"),
        ("UPDATE dead_letters SET reason = 'whim'", "no worker writes"),
        ("UPDATE customers SET id = 999999 WHERE id = 1002", "sequence"),
        ("UPDATE users SET role = 'admin'", "role"),
        ("UPDATE users SET disabled_at = NULL", "disabled"),
        ("UPDATE api_keys SET revoked_at = NULL", "API key"),
        ("UPDATE api_keys SET scopes = '{admin}'", "API key"),
    ],
)
async def test_damage_is_reported(verified: Service, damage: str, what: str) -> None:
    await verified.execute(damage)
    assert any(what in fault for fault in await _broken(verified))


async def test_a_constraint_that_was_dropped_is_missed(verified: Service) -> None:
    await verified.execute("ALTER TABLE customers DROP CONSTRAINT ck_customers_hold")
    try:
        assert any("constraint" in fault for fault in await _broken(verified))
    finally:
        await verified.execute(
            "ALTER TABLE customers ADD CONSTRAINT ck_customers_hold CHECK ("
            "segment_manual = (segment_held_since IS NOT NULL)"
            " AND (segment_manual OR NOT segment_pinned AND segment_pinned_until IS NULL)"
            " AND NOT (segment_pinned AND segment_pinned_until IS NOT NULL))"
        )
