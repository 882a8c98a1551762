"""Send one event to an endpoint, as Standard Webhooks says, and read its answer.

Whatever happens at the other end becomes an `Outcome`. The address is checked when the connection
is made, on the very address that it goes to: between a check of the name and the connection, the
name could get another address.
"""

import asyncio
import contextlib
import email.utils
import functools
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from typing import Any, NamedTuple

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from standardwebhooks import Webhook

from service.core.addresses import refusal
from service.core.endpoints import target_of

CONNECT_SECONDS = 5.0
SEND_SECONDS = 15.0
"""The longest time of an attempt, from finding the address to the end of the answer."""
_MOST_ANSWER = 4096
"""Bytes of an answer that are read, so that the connection can be used again. Nothing is kept."""
_KEEP_SECONDS = 4.0
"""How long an idle connection is kept: less than the 5 seconds after which many servers close it,
because a request on a connection that is being closed fails."""
_MOST_WAIT = 86_400.0
"""Seconds that an endpoint may ask us to wait."""
_OK = range(200, 300)
_REDIRECTS = range(300, 400)
_GONE = 410

Check = Callable[[str], str | None]
"""Returns why nothing may be sent to an address, or None."""


class Message(NamedTuple):
    """What is sent."""

    id: str
    body: bytes
    traceparent: str | None = None


class Outcome(NamedTuple):
    """What became of an attempt."""

    error: str | None
    """Why it failed, for people: "answered 500". None if the event has arrived."""
    gone: bool = False
    """The endpoint wants no more events."""
    wait_seconds: float = 0.0
    """How long the endpoint asks us to wait."""


class AddressRefusedError(OSError):
    """The host has an address to which nothing may be sent; the message says which and why."""


class Sender:
    """The connections to one endpoint. Create it within `sending`."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        """Send to a URL in a session."""
        self._session = session
        self._url = url

    async def send(self, message: Message, secrets: Sequence[str]) -> Outcome:
        """Send once, signed with each of the secrets."""
        headers = _headers(message, secrets, datetime.now(UTC))
        try:
            async with self._session.post(
                self._url, data=message.body, headers=headers, allow_redirects=False
            ) as answer:
                outcome = _judge(answer)
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    await answer.content.read(_MOST_ANSWER)
                return outcome
        except TimeoutError as error:
            at_connect = isinstance(error, aiohttp.ConnectionTimeoutError)
            if at_connect:
                return Outcome(f"did not accept a connection within {CONNECT_SECONDS:g} s")
            return Outcome(f"did not answer within {SEND_SECONDS:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Outcome(_described(error))


@contextlib.asynccontextmanager
async def sending(url: str, *, allow_private: bool, at_once: int) -> AsyncIterator[Sender]:
    """Yield a sender with at most ``at_once`` connections. Raises BadUrlError."""
    target = target_of(url, allow_private=allow_private)
    check = partial(refusal, allow_private=allow_private, is_plain=target.is_plain)
    # A name server that does not answer holds a thread for half a minute. With a thread of its own,
    # an endpoint delays nobody else.
    with _thread() as thread:
        context = await asyncio.get_running_loop().run_in_executor(thread, _tls)
        connector = aiohttp.TCPConnector(
            limit=at_once,
            resolver=_Resolver(thread, check),
            use_dns_cache=False,
            keepalive_timeout=_KEEP_SECONDS,
            ssl=context,
            socket_factory=partial(_checked_socket, check),
        )
        async with aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=SEND_SECONDS, sock_connect=CONNECT_SECONDS),
            headers={"User-Agent": f"recovery-essentials-crm/{version('recovery-essentials-crm')}"},
            trust_env=False,
        ) as session:
            yield Sender(session, url)


def signatures(message: Message, secrets: Sequence[str], at: datetime) -> str:
    """Return the value of ``webhook-signature``: a signature per secret, with blanks between."""
    body = message.body.decode()
    return " ".join(Webhook(secret).sign(message.id, at, body) for secret in secrets)


def _headers(message: Message, secrets: Sequence[str], at: datetime) -> dict[str, str]:
    headers = {
        "content-type": "application/cloudevents+json; charset=utf-8",
        "webhook-id": message.id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": signatures(message, secrets, at),
    }
    return headers | ({"traceparent": message.traceparent} if message.traceparent else {})


def _judge(answer: aiohttp.ClientResponse) -> Outcome:
    """Judge an answer by its status alone: what it says may be anything."""
    if answer.status in _OK:
        return Outcome(None)
    said = f"answered {answer.status}"
    if answer.status in _REDIRECTS:
        return Outcome(f"{said}: redirects are not followed; register the URL that it leads to")
    if answer.status == _GONE:
        return Outcome(f"{said}: it wants no more events", gone=True)
    return Outcome(said, wait_seconds=_wait_seconds(answer.headers.get("retry-after", "")))


def _wait_seconds(retry_after: str) -> float:
    """Read a Retry-After header: seconds, or a date. 0 if it says neither."""
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:10]), _MOST_WAIT)
    try:
        until = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return min(max((until - datetime.now(UTC)).total_seconds(), 0.0), _MOST_WAIT)


def _described(error: Exception) -> str:
    """Return what went wrong, for people. Nothing of it comes from the other end."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            reason = getattr(error.certificate_error, "verify_message", "") or "it is not valid"
            why = f"has a certificate that is not accepted: {reason}"
        case aiohttp.ClientConnectorSSLError():
            why = "does not speak TLS as we do"
        case aiohttp.ClientConnectorError(os_error=AddressRefusedError() as refused):
            why = f"leads to an address that is not allowed: {refused}"
        case aiohttp.ClientConnectorDNSError():
            why = "has a name that cannot be found"
        case aiohttp.ClientConnectorError():
            number = error.os_error.errno
            reason = os.strerror(number) if number else type(error.os_error).__name__
            why = f"cannot be reached: {reason}"
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError():
            why = "closed the connection without an answer"
        case _:
            why = f"gave no answer that can be read ({type(error).__name__})"
    return why


@functools.cache
def _tls() -> ssl.SSLContext:
    """Load the system's authorities: 20 ms of CPU time, so once, and not in the event loop."""
    return ssl.create_default_context()


@contextlib.contextmanager
def _thread() -> Iterator[ThreadPoolExecutor]:
    thread = ThreadPoolExecutor(1, thread_name_prefix="webhook")
    try:
        yield thread
    finally:
        thread.shutdown(wait=False, cancel_futures=True)


class _Resolver(AbstractResolver):
    """Finds addresses in a thread of its own. Raises AddressRefusedError if none is allowed."""

    def __init__(self, thread: ThreadPoolExecutor, check: Check) -> None:
        self._thread = thread
        self._check = check

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        find = partial(socket.getaddrinfo, host, port, family, socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._thread, find)
        refused = [self._check(str(address[0])) for *_, address in found]
        if found and all(refused):
            raise AddressRefusedError(refused[0])
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        pass


def _checked_socket(check: Check, info: Any) -> socket.socket:
    """Create the socket of a connection, unless nothing may be sent to its address."""
    family, kind, protocol, _, address = info
    why = check(str(address[0]))
    if why:
        raise AddressRefusedError(why)
    return socket.socket(family, kind, protocol)
