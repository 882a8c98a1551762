"""When silence moves a customer down, by the rules and the hold."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from service.core.lapse import Lapse, lapse_of
from service.core.segment_rules import Facts, Precedence, Segment, SegmentSettings

NOW = datetime(2026, 11, 28, tzinfo=UTC)
RULES = SegmentSettings()
AT_RISK, INACTIVE, VIP = Segment.AT_RISK, Segment.INACTIVE, Segment.VIP


def ago(days: float) -> Facts:
    return Facts(4, Decimal(600), NOW - timedelta(days=days))


def ahead(days: float) -> datetime:
    return NOW + timedelta(days=days)


@pytest.mark.parametrize(
    ("silent", "segment", "free_from", "lapse"),
    [
        (10, VIP, NOW, Lapse(AT_RISK, ahead(50))),
        (70, AT_RISK, NOW, Lapse(INACTIVE, ahead(20))),
        (100, INACTIVE, NOW, None),
        # time has made them due, and the sweep comes within a minute
        (60, VIP, NOW, Lapse(AT_RISK, NOW)),
        (90, AT_RISK, NOW, Lapse(INACTIVE, NOW)),
        # held by hand
        (10, VIP, None, None),
        (10, VIP, ahead(30), Lapse(AT_RISK, ahead(50))),
        (10, VIP, ahead(60), Lapse(AT_RISK, ahead(60))),
        (10, VIP, ahead(100), Lapse(INACTIVE, ahead(100))),
        (10, AT_RISK, ahead(60), Lapse(INACTIVE, ahead(80))),
        (10, INACTIVE, ahead(60), None),
    ],
)
def test_silence_moves_down_unless_a_hold_lasts(
    silent: float, segment: Segment, free_from: datetime | None, lapse: Lapse | None
) -> None:
    assert lapse_of(ago(silent), RULES, NOW, segment, free_from) == lapse


def test_nobody_lapses_whom_time_does_not_move() -> None:
    off = RULES.model_copy(update={"auto_segmentation": False})
    assert lapse_of(ago(10), off, NOW, VIP, NOW) is None
    assert lapse_of(Facts(0, Decimal(0), None), RULES, NOW, Segment.NEW, NOW) is None
    by_value = RULES.model_copy(update={"precedence": Precedence.VALUE_FIRST})
    assert lapse_of(ago(10), by_value, NOW, VIP, NOW) is None
    some = Facts(2, Decimal(60), NOW - timedelta(days=10))
    found = lapse_of(some, by_value, NOW, Segment.RETURNING, NOW)
    assert found == Lapse(AT_RISK, ahead(50))
