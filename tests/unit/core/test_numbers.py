"""Numbers and customer ids are read from text that somebody else wrote."""

import pytest

from service.core.customer_ids import customer_number, customer_ref
from service.core.numbers import whole_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("007", 7),
        ("9" * 18, 10**18 - 1),
        ("9" * 19, None),
        ("", None),
        ("-1", None),
        ("1.0", None),
        (" 1", None),
        ("٣", None),  # a digit to Python's int(), not to PostgreSQL
        ("²", None),  # a digit to str.isdigit(), not to int()
    ],
)
def test_only_ascii_digits_that_fit_are_a_whole_number(text: str, number: int | None) -> None:
    assert whole_number(text) == number


def test_a_shorter_limit_is_kept() -> None:
    assert whole_number("123", digits=3) == 123
    assert whole_number("1234", digits=3) is None


@pytest.mark.parametrize("text", ["CUST-", "cust-1001", "CUST-1001 ", "CUST-٣", "CUST-" + "1" * 19])
def test_text_that_is_no_customer_id_names_no_customer(text: str) -> None:
    assert customer_number(text) is None


def test_an_id_is_read_as_it_is_written() -> None:
    assert customer_ref(1001) == "CUST-1001"
    assert customer_number(customer_ref(1001)) == 1001
