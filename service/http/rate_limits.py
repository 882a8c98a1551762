"""Limits that keep one caller from taking the service away from the others.

They are kept per process: with n replicas behind a balancer a caller may get n times as much.
"""

import asyncio
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address, ip_network

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.core.numbers import whole_number
from service.http.problems import ProblemError

Clock = Callable[[], float]

_MOST_BUCKETS = 10_000


class Buckets:
    """A token bucket per key: ``burst`` at once, and ``rate`` more every second."""

    def __init__(self, rate: float, burst: float, clock: Clock) -> None:
        """Start with all of them full."""
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, key: str) -> float:
        """Take a token. Gives 0, or the seconds until there is one."""
        now = self._clock()
        tokens = self._tokens(key, now)
        if tokens < 1:
            return (1 - tokens) / self._rate
        if key not in self._buckets and len(self._buckets) >= _MOST_BUCKETS:
            self._forget_full(now)
        self._buckets[key] = tokens - 1, now
        return 0.0

    def give_back(self, key: str) -> None:
        """Put back a token that was taken for what did not happen."""
        now = self._clock()
        self._buckets[key] = min(self._burst, self._tokens(key, now) + 1), now

    def wait(self, key: str) -> float:
        """Give the seconds until there is a token, and take none."""
        return max(0.0, (1 - self._tokens(key, self._clock())) / self._rate)

    def _tokens(self, key: str, now: float) -> float:
        tokens, since = self._buckets.get(key, (self._burst, now))
        return min(self._burst, tokens + (now - since) * self._rate)

    def _forget_full(self, now: float) -> None:
        """Drop what has filled up again; when that is not enough, all."""
        kept = {k: v for k, v in self._buckets.items() if self._tokens(k, now) < self._burst}
        self._buckets = kept if len(kept) < _MOST_BUCKETS else {}


def too_many(seconds: float) -> ProblemError:
    """Make the refusal of a caller who may come back after ``seconds``."""
    wait = str(int(seconds) + 1)
    detail = f"This is more than one caller may ask for; come back in {wait} s."
    return ProblemError(429, "Too many requests", detail, headers={"Retry-After": wait})


def address_of(scope: Scope) -> str:
    """Tell the caller's address; of IPv6 the network, for each caller has 2^64 of them."""
    host = str((scope.get("client") or ("unknown",))[0])
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if isinstance(address, IPv6Address) and not address.ipv4_mapped:
        return str(ip_network((address, 64), strict=False))
    return host


class BodyLimit:
    """Refuses bodies larger than ``largest`` bytes, announced or not."""

    def __init__(self, app: ASGIApp, largest: int) -> None:
        """Wrap an application."""
        self._app = app
        self._largest = largest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raise for what is announced too large at once, for the rest as soon as it is."""
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            self._check(received)
            return message

        if scope["type"] == "http":
            announced = dict(scope["headers"]).get(b"content-length", b"")
            self._check(whole_number(announced.decode("latin-1"), len(announced)) or 0)
        await self._app(scope, limited, send)

    def _check(self, size: int) -> None:
        # Of this kind, because FastAPI turns others that come up while it reads into a 400.
        if size > self._largest:
            raise HTTPException(413, f"The body is larger than {self._largest:,} bytes.")


class Deadline:
    """Gives up on a request that has not begun to answer after ``seconds``.

    What has begun is left alone, so exports and event streams may take as long as they need.
    """

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        """Wrap an application."""
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raise a problem when time is up: the caller's, while the body has not arrived."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        waiting = arrived = False

        async def arriving() -> Message:
            nonlocal waiting, arrived
            waiting = True
            message = await receive()
            waiting, arrived = False, not message.get("more_body", False)
            return message

        async def begun(message: Message) -> None:
            deadline.reschedule(None)
            await send(message)

        try:
            async with asyncio.timeout(self._seconds) as deadline:
                await self._app(scope, arriving, begun)
        except TimeoutError:
            if not deadline.expired():
                raise
            if waiting and not arrived:
                detail = f"The body of the request did not arrive within {self._seconds:g} s."
                headers = {"Connection": "close"}
                raise ProblemError(408, "Request Timeout", detail, headers=headers) from None
            detail = f"This took longer than {self._seconds:g} s and was given up."
            raise ProblemError(503, "Took too long", detail, headers={"Retry-After": "5"}) from None
