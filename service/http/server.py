"""uvicorn's HTTP/1.1 connection, with limits for the time before the application is called.

A request's head is its first line and its headers. Without these limits a peer could send a head
without end, or never finish one, and hold memory and connections for as long as it likes: uvicorn
has no timeout for a head, and httptools no size that can be set
(https://github.com/Kludex/uvicorn/issues/157). uvicorn also answers in plain text to bytes that are
not HTTP (https://github.com/Kludex/uvicorn/pull/1352); here the answer is a problem document.

The class overrides methods that a release of uvicorn may change, because uvicorn has no supported
way to do this. `tests/system/bad_input` sends such input to a real process, and would fail.
"""

import asyncio
from http import HTTPStatus
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.http.middleware.request_log import HEADERS
from service.http.middleware.time_limits import ABORT
from service.http.problems import MEDIA_TYPE, Problem, problem_json

LARGEST_HEAD = 65_536
"""Bytes after which an unfinished head is refused, and the most that all headers may have."""
MOST_HEADERS = 100
"""Every look at a header passes all of them. Browsers and proxies send about thirty."""


class HeadTooLargeError(Exception):
    """The headers of a request are too many or too long."""


class Connection(HttpToolsProtocol):
    """One connection with these limits. A server uses the class that `connection` returns."""

    seconds = 30.0
    _timer: asyncio.TimerHandle | None = None
    _in_head = False
    _head_bytes = 0
    _header_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time limit for the first request."""
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the time limit."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on. Limit the size of an unfinished head, and the time until it is complete."""
        was_in_head = self._in_head
        super().data_received(data)
        if self.transport.is_closing():
            return
        if was_in_head and self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > LARGEST_HEAD:
                self._refuse_head()
        if self._answering is None:
            self._start_timer()

    def on_message_begin(self) -> None:
        """Note that a head has begun."""
        super().on_message_begin()
        cast("dict[str, Any]", self.scope)[ABORT] = self.transport.abort
        self._in_head, self._head_bytes, self._header_bytes = True, 0, 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header. Raises HeadTooLargeError if there are too many; this ends the reading."""
        super().on_header(name, value)
        self._header_bytes += len(name) + len(value)
        if self._head_too_large:
            raise HeadTooLargeError

    def on_headers_complete(self) -> None:
        """Stop the time limit. From here on, the limits of `middleware` apply."""
        self._in_head = False
        self._stop_timer()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  uvicorn always passes the same words
        """Answer bytes that are not HTTP, or a head that is too large."""
        if self._head_too_large:
            self._refuse_head()
            return
        self._refuse(HTTPStatus.BAD_REQUEST, "These bytes are not a valid HTTP/1.1 request.")

    @property
    def _answering(self) -> RequestResponseCycle | None:
        """The request that is being answered, or None between two requests."""
        cycle: RequestResponseCycle | None = self.cycle  # None before the first
        return None if cycle is None or cycle.response_complete else cycle

    @property
    def _head_too_large(self) -> bool:
        return self._header_bytes > LARGEST_HEAD or len(self.headers) > MOST_HEADERS

    def _start_timer(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self.seconds, self._on_timeout)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timeout(self) -> None:
        self._timer = None
        if self._in_head:
            detail = f"The head of the request did not arrive within {self.seconds:g} s."
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, detail)
        else:
            self.transport.close()

    def _refuse_head(self) -> None:
        detail = (
            f"The head of the request is larger than {LARGEST_HEAD:,} bytes, or has more than "
            f"{MOST_HEADERS} headers. Send fewer or shorter ones."
        )
        self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, detail)

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        """Answer and hang up. If another answer has already begun, only hang up."""
        if self._answering is None or not self._answering.response_started:
            problem = Problem(title=status.phrase, status=status, detail=detail)
            body = problem_json(problem)
            headers = {
                **HEADERS,
                "Content-Type": MEDIA_TYPE,
                "Content-Length": len(body),
                "Connection": "close",
            }
            lines = [f"HTTP/1.1 {status} {status.phrase}"]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)
        self.transport.close()


def connection(seconds: float) -> type[asyncio.Protocol]:
    """Return the class of connections whose request heads must arrive within ``seconds``."""
    return type("Connection", (Connection,), {"seconds": seconds})
