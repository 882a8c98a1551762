"""Rate limits: one bucket per caller, and which address counts as a caller."""

import pytest

from service.http.rate_limits import _MOST_BUCKETS, Buckets, address_of


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


@pytest.mark.parametrize(
    ("client", "caller"),
    [
        (("192.0.2.7", 1), "192.0.2.7"),
        (("2001:db8:1:2:3:4:5:6", 1), "2001:db8:1:2::/64"),
        (("2001:db8:1:2::9", 1), "2001:db8:1:2::/64"),
        (("::ffff:192.0.2.7", 1), "::ffff:192.0.2.7"),
        (("socket", 1), "socket"),
        (None, "unknown"),
    ],
)
def test_callers_with_ipv6_are_counted_by_network(
    client: tuple[str, int] | None, caller: str
) -> None:
    assert address_of({"client": client}) == caller
