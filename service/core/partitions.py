"""The streams of orders: one, or that one and its partitions, which publishers choose by customer.

A partition is a stream of its own, ``orders:{3}``. The braces are a hash tag: on a Redis Cluster
the partitions spread over the masters. Arrival never matters, so an event in another partition than
it belongs to, or one that comes after the number of partitions was changed, is applied all the
same; keeping a customer's events together only keeps workers from waiting for each other's locks.
"""

import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

_BLANK = " \t\r\n"


class OrdersStream(NamedTuple):
    """A stream that orders come in by."""

    name: str
    partition: int | None
    """None: the one that is not partitioned."""


def orders_streams(plain: str, partitions: int) -> tuple[OrdersStream, ...]:
    """Give all streams to read.

    The plain one is always among them, so that publishers move to partitions one by one.
    """
    numbers = range(partitions if partitions > 1 else 0)
    return (
        OrdersStream(plain, None),
        *(OrdersStream(f"{plain}:{{{number}}}", number) for number in numbers),
    )


def partition_key(order: Mapping[str, Any]) -> str:
    """Tell by what an order is partitioned: its customer's e-mail, else their id, else its own."""
    given = order.get("customer")
    customer = given if isinstance(given, Mapping) else {}
    for value in (customer.get("email"), customer.get("id"), order.get("id")):
        if isinstance(value, str) and value.strip(_BLANK):
            return value
    return ""


def partition_of(key: str, partitions: int) -> int:
    """Give the partition of a key: CRC-32 of its UTF-8, blanks around it cut, A–Z made small.

    Letters beyond ASCII stay as they are: languages make them small in different ways.
    """
    return zlib.crc32(key.strip(_BLANK).encode().lower()) % partitions
