"""The streams of orders: the plain one, and its partitions if there are any.

A partition is a stream of its own, ``orders:{3}``. The braces are a hash tag, which spreads the
partitions over the masters of a Redis Cluster. Publishers choose the partition by customer, so that
workers seldom wait for each other's locks. Correctness does not depend on it: the order of arrival
never matters, so an event in the wrong partition, or one that comes after the number of partitions
was changed, is applied all the same.
"""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

_BLANK = " \t\r\n"


class OrdersStream(NamedTuple):
    """A stream from which orders are read."""

    name: str
    partition: int | None
    """None: the plain stream, which is not partitioned."""


def orders_streams(plain: str, partitions: int) -> tuple[OrdersStream, ...]:
    """Return all streams to read.

    The plain one is always among them, so that publishers can move to partitions one by one.
    """
    numbers = range(partitions if partitions > 1 else 0)
    return (
        OrdersStream(plain, None),
        *(OrdersStream(f"{plain}:{{{number}}}", number) for number in numbers),
    )


def partition_key(order: Mapping[str, Any]) -> str:
    """Return the key that decides an order's partition.

    That is the customer's e-mail, else the customer's id, else the order's id.
    """
    value = order.get("customer")
    customer = value if isinstance(value, Mapping) else {}
    for value in (customer.get("email"), customer.get("id"), order.get("id")):
        if isinstance(value, str) and value.strip(_BLANK):
            return value
    return ""


def partition_of(key: str, partitions: int) -> int:
    """Return the partition of a key: the CRC-32 of its UTF-8 bytes, modulo ``partitions``.

    The key is trimmed first, and A–Z become lower case. Other letters stay as they are, because
    programming languages lower them in different ways.
    """
    return zlib.crc32(key.strip(_BLANK).encode().lower()) % partitions


def stream_of(streams: Sequence[OrdersStream], order: object) -> str:
    """Return the stream that a publisher chooses; the plain one for what is no order."""
    plain, *partitions = streams
    if not partitions or not isinstance(order, Mapping):
        return plain.name
    return partitions[partition_of(partition_key(order), len(partitions))].name
