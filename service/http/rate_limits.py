"""Limit how often one caller may do something, and how many do it at once.

So no caller slows down the others.

Each process counts for itself: with n processes behind a load balancer, a caller may send n times
as many requests.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import IPv6Address, ip_address, ip_network

from starlette.datastructures import Headers
from starlette.types import Scope

from service.http.problems import ProblemError

Clock = Callable[[], float]
"""Returns seconds that never go back, such as `time.monotonic`."""

_MOST_BUCKETS = 10_000


class Buckets:
    """A token bucket per key: it holds at most ``burst`` tokens and gains ``rate`` per second."""

    def __init__(self, rate: float, burst: float, clock: Clock) -> None:
        """Start with every bucket full."""
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, key: str) -> float:
        """Take a token and return 0. If there is none, return the seconds until the next one."""
        now = self._clock()
        tokens = self._tokens(key, now)
        if tokens < 1:
            return (1 - tokens) / self._rate
        if key not in self._buckets and len(self._buckets) >= _MOST_BUCKETS:
            self._forget_full(now)
        self._buckets[key] = tokens - 1, now
        return 0.0

    def give_back(self, key: str) -> None:
        """Put back a token that was taken for something that did not happen."""
        now = self._clock()
        self._buckets[key] = min(self._burst, self._tokens(key, now) + 1), now

    def wait(self, key: str) -> float:
        """Return the seconds until there is a token. Take none."""
        return max(0.0, (1 - self._tokens(key, self._clock())) / self._rate)

    def _tokens(self, key: str, now: float) -> float:
        tokens, since = self._buckets.get(key, (self._burst, now))
        return min(self._burst, tokens + (now - since) * self._rate)

    def _forget_full(self, now: float) -> None:
        """Drop the buckets that are full again; if that is not enough, drop all."""
        in_use = {k: v for k, v in self._buckets.items() if self._tokens(k, now) < self._burst}
        self._buckets = in_use if len(in_use) < _MOST_BUCKETS else {}


class LaneFullError(Exception):
    """Too many are waiting already."""


class Lane:
    """Lets ``at_once`` callers through at a time, and lets ``waiting`` more wait for their turn."""

    def __init__(self, *, at_once: int, waiting: int) -> None:
        """Start empty."""
        self._turns = asyncio.Semaphore(at_once)
        self._places = at_once + waiting

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn and hold it. Raises LaneFullError at once if nobody more may wait."""
        if not self._places:
            raise LaneFullError
        self._places -= 1
        try:
            async with self._turns:
                yield
        finally:
            self._places += 1


def too_many(seconds: float) -> ProblemError:
    """Return the problem for a caller who may try again after ``seconds``."""
    wait = str(int(seconds) + 1)
    detail = f"You sent more requests than one caller may send. Try again in {wait} s."
    return ProblemError(429, "Too many requests", detail, headers={"Retry-After": wait})


def address_of(scope: Scope) -> str:
    """Return the caller's address. For IPv6, return the /64 network: one caller owns all of it."""
    host = str((scope.get("client") or ("unknown",))[0])
    return _network(host, v4_bits=32) or host


def network_of(scope: Scope) -> str | None:
    """Return the network that a request came from, ``/24`` or ``/64``. None if it is not known.

    It is not known if a proxy has sent the request whose word the server does not take
    (`FORWARDED_ALLOW_IPS`): then the address is the proxy's.
    """
    host = str((scope.get("client") or ("unknown",))[0])
    forwarded = ",".join(Headers(scope=scope).getlist("x-forwarded-for"))
    if forwarded and host not in map(_without_port, forwarded.split(",")):
        return None
    return _network(host, v4_bits=24)


def _without_port(address: str) -> str:
    """Return the host of an address: ``192.0.2.1:80``, ``[2001:db8::1]:80``, or without a port."""
    address = address.strip()
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.partition(":")[0] if address.count(":") == 1 else address


def _network(host: str, *, v4_bits: int) -> str | None:
    """Return the network of an address as text, or None if it is no IP address."""
    try:
        address = ip_address(host)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is None:
            return str(ip_network((address, 64), strict=False))
        address = address.ipv4_mapped
    network = ip_network((address, v4_bits), strict=False)
    return str(network if v4_bits < address.max_prefixlen else address)
