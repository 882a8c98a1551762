"""The HTTP/1.1 connection: uvicorn's, with limits on what comes before the application sees it.

Left alone, a peer could send a request's head without end, or never, and hold memory and
connections for as long as it likes. And what is no HTTP is answered as every other error is.
"""

import asyncio
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.http.middleware.request_log import HEADERS
from service.http.problems import MEDIA_TYPE, Problem, problem_json

LARGEST_HEAD = 65_536
"""Bytes of an unfinished head after which it is refused, whatever was read at once with them."""


class Connection(HttpToolsProtocol):
    """One connection; `connection` makes the class that a server uses."""

    seconds = 30.0
    _late: asyncio.TimerHandle | None = None
    _in_head = False
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on; what belongs to no request in hand must become one in time."""
        was_in_head = self._in_head
        super().data_received(data)
        if self.transport.is_closing():
            return
        if was_in_head and self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > LARGEST_HEAD:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The head is too large.")
        if self._in_hand is None:
            self._wait()

    def on_message_begin(self) -> None:
        """Note that a head began."""
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        """From here on, the application's own limits hold."""
        self._in_head = False
        self._stop_waiting()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  it always says the same
        """Answer what is no HTTP."""
        self._refuse(HTTPStatus.BAD_REQUEST, "What was sent is not a valid HTTP/1.1 request.")

    @property
    def _in_hand(self) -> RequestResponseCycle | None:
        """The request that is being answered."""
        cycle: RequestResponseCycle | None = self.cycle  # None before the first
        return None if cycle is None or cycle.response_complete else cycle

    def _wait(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(self.seconds, self._give_up)

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _give_up(self) -> None:
        self._late = None
        if self._in_head:
            detail = f"The head of the request did not arrive within {self.seconds:g} s."
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, detail)
        else:
            self.transport.close()

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        """Answer and hang up; amid another answer, only hang up."""
        if self._in_hand is None or not self._in_hand.response_started:
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
    """Make connections on which the head of a request takes no longer than ``seconds``."""
    return type("Connection", (Connection,), {"seconds": seconds})
