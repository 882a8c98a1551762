"""How a key figure is compared with the period before."""

from decimal import Decimal

import pytest

from service.http.dashboard.cards import Card


@pytest.mark.parametrize(
    ("kind", "value", "before", "change", "tiny"),
    [
        ("number", 3, 2, "50", False),
        ("number", 1, 2, "-50", False),
        ("number", 2, 2, "0", True),
        ("number", 100_001, 100_000, "0.001", True),
        ("number", 99_999, 100_000, "-0.001", True),
        ("number", 2001, 2000, "0.05", True),
        ("number", 1001, 1000, "0.1", False),
        ("number", 2, 0, None, False),
        ("number", 0, 2, "-100", False),
        ("number", 0, 0, "0", True),
        ("money", Decimal("9.00"), Decimal("12.00"), "-25", False),
        ("percent", Decimal("54.50"), Decimal("52.00"), "2.50", False),
        ("percent", Decimal(10), Decimal(0), "10", False),
        ("percent", Decimal("10.01"), Decimal("10.00"), "0.01", True),
        ("percent", Decimal(10), None, None, False),
        ("percent", None, Decimal(10), None, False),
    ],
)
def test_a_change_is_exact_and_a_tiny_one_is_known_to_be_one(
    kind: str, value: Decimal | None, before: Decimal | None, change: str | None, *, tiny: bool
) -> None:
    card = Card("A figure", kind, value, before)
    assert card.change == (None if change is None else Decimal(change))
    assert card.tiny is tiny
