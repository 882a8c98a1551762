"""Rate limits: one bucket per caller, lanes, and which address counts as a caller."""

import asyncio

import pytest

from service.http.rate_limits import (
    _MOST_BUCKETS,
    Buckets,
    Lane,
    LaneFullError,
    address_of,
    network_of,
)


def test_buckets_fill_up_to_their_burst_and_no_further() -> None:
    time = 0.0
    buckets = Buckets(rate=2, burst=4, clock=lambda: time)
    assert [buckets.take("a") for _ in range(5)] == [0, 0, 0, 0, 0.5]
    assert (buckets.wait("a"), buckets.wait("b")) == (0.5, 0)
    time = 0.25
    assert buckets.take("a") == 0.25
    time = 0.5
    assert [buckets.take("a") for _ in range(2)] == [0, 0.5]
    time = 1000.0
    assert [buckets.take("a") for _ in range(5)] == [0, 0, 0, 0, 0.5]


def test_the_number_of_buckets_is_limited() -> None:
    time = 0.0
    buckets = Buckets(rate=1, burst=2, clock=lambda: time)
    assert [buckets.take("busy") for _ in range(2)] == [0, 0]
    for number in range(_MOST_BUCKETS - 1):
        buckets.take(str(number))
    time = 1.0  # all but one are full again
    buckets.take("one more")
    assert len(buckets._buckets) == 2
    assert buckets.wait("busy") == 0


async def test_a_lane_lets_some_through_and_refuses_at_once_when_it_is_full() -> None:
    lane, inside, done = Lane(at_once=2, waiting=3), [], asyncio.Event()

    async def pass_through(number: int) -> None:
        async with lane.turn():
            inside.append(number)
            await done.wait()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(pass_through(number)) for number in range(5)]
        await asyncio.sleep(0)
        assert inside == [0, 1]
        with pytest.raises(LaneFullError):
            await pass_through(5)
        tasks[2].cancel()  # whoever gives up leaves the place to somebody else
        await asyncio.sleep(0)
        group.create_task(pass_through(6))
        await asyncio.sleep(0)
        with pytest.raises(LaneFullError):
            await pass_through(7)
        done.set()
    assert inside == [0, 1, 3, 4, 6]


@pytest.mark.parametrize(
    ("client", "caller"),
    [
        (("192.0.2.7", 1), "192.0.2.7"),
        (("2001:db8:1:2:3:4:5:6", 1), "2001:db8:1:2::/64"),
        (("2001:db8:1:2::9", 1), "2001:db8:1:2::/64"),
        (("::ffff:192.0.2.7", 1), "192.0.2.7"),
        (("socket", 1), "socket"),
        (None, "unknown"),
    ],
)
def test_callers_with_ipv6_are_counted_by_network(
    client: tuple[str, int] | None, caller: str
) -> None:
    assert address_of({"client": client}) == caller


@pytest.mark.parametrize(
    ("client", "forwarded", "network"),
    [
        ("192.0.2.7", "", "192.0.2.0/24"),
        ("::ffff:192.0.2.7", "", "192.0.2.0/24"),
        ("2001:db8:1:2:3:4:5:6", "", "2001:db8:1:2::/64"),
        ("192.0.2.7", "192.0.2.7", "192.0.2.0/24"),
        ("192.0.2.7", "10.0.0.1, 192.0.2.7:4711", "192.0.2.0/24"),
        ("2001:db8::1", "[2001:db8::1]:4711", "2001:db8::/64"),
        ("2001:db8::1", "[2001:db8::1], 10.0.0.1", "2001:db8::/64"),
        # The server does not trust the proxy: it is the proxy's own address that is known.
        ("192.0.2.7", "203.0.113.9", None),
        ("192.0.2.7", "192.0.2.77", None),
        ("192.0.2.7", "[", None),
        ("socket", "", None),
        (None, "", None),
    ],
)
def test_the_network_of_a_request_is_known_only_if_nobody_stands_before_it(
    client: str | None, forwarded: str, network: str | None
) -> None:
    headers = [(b"x-forwarded-for", forwarded.encode())] if forwarded else []
    scope = {"type": "http", "client": (client, 0) if client else None, "headers": headers}
    assert network_of(scope) == network
