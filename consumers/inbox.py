"""Where judged entries wait to be applied: in lanes, split by customer.

Two batches that name the same customer wait for each other's locks, and of a thousand entries
each some nearly always do. In lanes of their own they never meet, so that both run in Postgres at
the same time.
"""

import asyncio
from collections.abc import Sequence

from service.core.order_event import Judged, OrderEvent

Batch = Sequence[Judged]

LANES = 2
"""Transactions of a worker that run at the same time."""
_AHEAD = 1  # batches per lane and stream, read and judged while one is applied


Lane = asyncio.Queue[Batch]


class Inbox:
    """Bounded: reading waits when the lanes are full, so a worker's memory stays flat."""

    def __init__(self, streams: int = 1) -> None:
        """Start empty, for what so many streams bring."""
        self.lanes = tuple(Lane(_AHEAD * streams) for _ in range(LANES))

    async def put(self, batch: Batch) -> None:
        """Hand a batch on, each customer's entries to one lane."""
        parts: list[list[Judged]] = [[] for _ in self.lanes]
        for judged in batch:
            parts[_lane(judged)].append(judged)
        for lane, part in zip(self.lanes, parts, strict=True):
            if part:
                await lane.put(part)

    async def take(self, lane: Lane, most: int) -> list[Batch]:
        """Wait for batches of a lane; give those that wait, until they are ``most`` entries.

        The last may go beyond that. For each, the lane's ``task_done`` is to be called.
        """
        taken = [await lane.get()]
        entries = len(taken[0])
        while entries < most and not lane.empty():
            taken.append(lane.get_nowait())
            entries += len(taken[-1])
        return taken

    async def join(self) -> None:
        """Return when all that was put has been applied."""
        for lane in self.lanes:
            await lane.join()


def _lane(judged: Judged) -> int:
    event = judged.verdict
    if not isinstance(event, OrderEvent):
        return 0
    person = event.customer
    return hash(person.email_key or person.number if person else event.order_id) % LANES
