"""How a key figure is compared with the period before."""

from decimal import Decimal

import pytest

from service.http.dashboard.cards import Card


@pytest.mark.parametrize(
    ("kind", "value", "before", "change"),
    [
        ("number", 3, 2, "50.0"),
        ("number", 2, 2, "0.0"),
        ("number", 100_001, 100_000, "0.0"),
        ("number", 2, 0, None),
        ("money", Decimal("9.00"), Decimal("12.00"), "-25.0"),
        ("percent", Decimal("54.50"), Decimal("52.00"), "2.5"),
        ("percent", Decimal(10), Decimal(0), "10.0"),
        ("percent", Decimal(10), None, None),
    ],
)
def test_a_change_has_one_decimal_so_that_no_change_is_zero(
    kind: str, value: Decimal, before: Decimal | None, change: str | None
) -> None:
    card = Card("A figure", kind, value, before)
    assert card.change == (None if change is None else Decimal(change))
