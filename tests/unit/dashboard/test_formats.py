"""Amounts as the reader writes them."""

from datetime import UTC
from decimal import Decimal

import pytest
from babel import Locale

from service.http.dashboard.formats import Formats


@pytest.mark.parametrize(
    ("locale", "amount", "written"),
    [
        ("en_US", "500.00", "$500"),
        ("en_US", "1500", "$1,500"),
        ("en_US", "19.99", "$19.99"),
        ("de_DE", "1500.00", "1.500\xa0$"),
        ("ja_JP", "500", "$500"),
    ],
)
def test_a_round_amount_is_written_without_cents(locale: str, amount: str, written: str) -> None:
    formats = Formats(Locale.parse(locale), UTC, "USD")
    assert formats.round_money(Decimal(amount)) == written
