"""Which partition an order belongs to, and which streams a worker reads."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.partitions import OrdersStream, orders_streams, partition_key, partition_of
from tests.paths import ROOT

_VECTOR = re.compile(r"^\| `(?P<key>[^`]+)` \| (?P<crc>\d+) \| (?P<of8>\d) \|$", re.MULTILINE)


def test_the_published_test_vectors_are_right() -> None:
    vectors = list(_VECTOR.finditer((ROOT / "docs/streams.md").read_text()))
    assert len(vectors) >= 4
    for vector in vectors:
        key = vector["key"].replace("·", " ")
        assert partition_of(key, 2**32) == int(vector["crc"]), key
        assert partition_of(key, 8) == int(vector["of8"]), key


@given(st.text(), st.integers(1, 1024))
def test_a_key_has_one_partition_however_it_is_written(key: str, partitions: int) -> None:
    number = partition_of(key, partitions)
    assert 0 <= number < partitions
    upper = "".join(c.upper() if c.isascii() else c for c in key)
    assert partition_of(f" \t{upper}\r\n", partitions) == number


@pytest.mark.parametrize(
    ("order", "key"),
    [
        (
            {"id": "ORD-1", "customer": {"id": "CUST-7", "email": "Jane@Example.com"}},
            "Jane@Example.com",
        ),
        ({"id": "ORD-1", "customer": {"id": "CUST-7", "email": " "}}, "CUST-7"),
        ({"id": "ORD-1", "customer": {"id": None}}, "ORD-1"),
        ({"id": "ORD-1", "customer": None}, "ORD-1"),
        ({"customer": "Jane"}, ""),
    ],
)
def test_the_partition_key_is_the_first_of_email_customer_id_and_order_id(
    order: dict[str, Any], key: str
) -> None:
    assert partition_key(order) == key


def test_the_plain_stream_is_always_read() -> None:
    plain = OrdersStream("orders", None)
    assert orders_streams("orders", 1) == (plain,)
    assert orders_streams("orders", 2) == (
        plain,
        OrdersStream("orders:{0}", 0),
        OrdersStream("orders:{1}", 1),
    )
