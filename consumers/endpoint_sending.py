"""Send one endpoint what is published, page by page.

A few events are on their way at a time, but never two of one customer. The cursor only moves over
events that have arrived. What arrived and was not noted is sent again, with the same id.

After a failure, one event at a time is tried, with longer and longer pauses.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, TypeVar, TypeVarTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.sender import Message, Outcome, Sender, sending
from consumers.tasks import together
from service.core.endpoints import BadUrlError
from service.db.operations import deliveries
from service.db.operations.deliveries import Due, Position, Waiting

log = logging.getLogger(__name__)

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

_AT_ONCE = 8
"""Events that are on their way to one endpoint at the same time."""
_PAGE = 100
_NOTE_SECONDS = 1.0
"""At most so many seconds of deliveries are repeated after this process has died."""
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 600.0


class Session:
    """The connection that holds the lock. All endpoints read and note on it, in turn."""

    def __init__(self, connection: AsyncConnection, seconds: float) -> None:
        """Use this connection. No call may take longer than ``seconds``."""
        self._connection = connection
        self._seconds = seconds
        self._turn = asyncio.Lock()

    async def run(
        self, work: Callable[[AsyncConnection, *Arguments], Awaitable[T]], *arguments: *Arguments
    ) -> T:
        """Return ``work(connection, *arguments)``. Raises TimeoutError."""
        async with self._turn, asyncio.timeout(self._seconds):
            return await work(self._connection, *arguments)


class EndpointSending:
    """The work on one endpoint, by one decision about it."""

    def __init__(self, session: Session, due: Due) -> None:
        """Go on where the endpoint is. Nothing is sent until `run` is called."""
        self.due = due
        self.finishing = False
        self._session = session
        self._position = Position(due.change_cursor, due.removal_cursor)
        self._failures = due.failures
        self._not_before = _now() + due.wait_seconds
        self._news = asyncio.Event()
        self.ahead = set[str]()
        """Ids of events beyond the position that have arrived. They are not sent once more."""

    def renew(self, due: Due) -> None:
        """Take over what is published by now, and the secrets of this moment."""
        self.due = due
        self._news.set()

    def finish(self) -> None:
        """Begin to send nothing more; `run` returns when what was begun is noted."""
        self.finishing = True
        self._news.set()

    async def run(self) -> None:
        """Send until `finish`, or until somebody, or this, decides about the endpoint."""
        try:
            async with sending(
                self.due.url, allow_private=self.due.allow_private, at_once=_AT_ONCE
            ) as sender:
                while not self.finishing and await self._send_next(sender):
                    pass
        except BadUrlError as error:
            await self._note_failure(Outcome(f"has a URL that {error}", gone=True), "anything")

    async def _send_next(self, sender: Sender) -> bool:
        """Send the next events, or wait for some; return False after a decision."""
        self._news.clear()
        if (wait := self._not_before - _now()) > 0:
            await self._wait(wait)
            return True
        most = 1 if self._failures else _PAGE
        events = await self._session.run(deliveries.next_page, self.due, self._position, most)
        if not events:
            await self._wait(None)
            return True
        page = _Page(self, sender, events)
        await page.send()
        if page.is_outdated:
            return False
        return not page.failures or await self._note_failure(*page.failures[0])

    async def _wait(self, seconds: float | None) -> None:
        """Wait for news, at most so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            pass

    async def note(self, arrived: Sequence[Waiting]) -> bool:
        """Note that the next events have arrived; return False after a decision."""
        position, last = self._position, arrived[-1].event.id
        for each in arrived:
            position = each.passed(position)
        if not await self._session.run(
            deliveries.note_delivered, self.due, position, len(arrived), last
        ):
            return False
        if self._failures:
            log.info("endpoint %d takes events again, the first is %s", self.due.id, last)
        self._position, self._failures = position, 0
        self.ahead.difference_update(each.event.id for each in arrived)
        return True

    async def _note_failure(self, outcome: Outcome, event: str) -> bool:
        """Note a failure, and when to try again; return False if the endpoint is paused now."""
        error = outcome.error or ""
        pause = min(_FIRST_PAUSE * 2.0 ** min(self._failures, 20), _LONGEST_PAUSE)
        delay = max(pause * random.uniform(0.8, 1.2), outcome.wait_seconds)
        self._failures += 1
        self._not_before = _now() + delay
        paused = await self._session.run(
            deliveries.note_failed, self.due, error, delay, outcome.gone
        )
        if paused is not None:
            log.error("endpoint %d is paused: it %s. See `crm hooks`", self.due.id, paused)
            return False
        log.warning(
            "endpoint %d did not take %s: it %s. Failures in a row: %d. Next attempt in %.0f s",
            *(self.due.id, event, error, self._failures, delay),
        )
        return True


class _Failure(NamedTuple):
    """What went wrong, and the id of the event that it went wrong with."""

    outcome: Outcome
    event: str


class _Page:
    """Some events in their order, on their way to an endpoint."""

    def __init__(
        self, endpoint: EndpointSending, sender: Sender, events: Sequence[Waiting]
    ) -> None:
        self._endpoint = endpoint
        self._sender = sender
        self._events = events
        self._arrived = [each.event.id in endpoint.ahead for each in events]
        self._noted = 0
        """How many are noted, from the beginning."""
        self._noted_at = _now()
        self._noting = asyncio.Lock()
        self._places = asyncio.Semaphore(_AT_ONCE)
        self.failures: list[_Failure] = []
        """After the first one, nothing more is begun."""
        self.is_outdated = False
        """Whether somebody has decided about the endpoint."""

    async def send(self) -> None:
        """Send all events until something fails, and note those that have arrived."""
        lanes: dict[int, list[int]] = {}
        for place, each in enumerate(self._events):
            lanes.setdefault(each.event.customer_id, []).append(place)
        await together(*(self._send_in_turn(places) for places in lanes.values()))
        await self._note()

    async def _send_in_turn(self, places: Sequence[int]) -> None:
        """Send the events of one customer."""
        for place in places:
            if self._arrived[place]:
                continue
            async with self._places:
                if self.failures or self.is_outdated or self._endpoint.finishing:
                    return
                event = self._events[place].event
                outcome = await self._sender.send(
                    Message(event.id, event.body, event.traceparent), self._endpoint.due.secrets
                )
            if outcome.error is not None:
                self.failures.append(_Failure(outcome, event.id))
                return
            self._arrived[place] = True
            self._endpoint.ahead.add(event.id)
            if _now() > self._noted_at + _NOTE_SECONDS:
                await self._note()

    async def _note(self) -> None:
        """Note those that have arrived, as far as none before them is missing."""
        async with self._noting:
            self._noted_at = _now()
            until = [*self._arrived, False].index(False)
            if until > self._noted and not self.is_outdated:
                arrived = self._events[self._noted : until]
                self.is_outdated = not await self._endpoint.note(arrived)
                self._noted = until


def _now() -> float:
    return asyncio.get_running_loop().time()
