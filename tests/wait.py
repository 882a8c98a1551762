"""Waiting for what must come true; tests never sleep for a fixed time."""

import asyncio
import time
from collections.abc import Awaitable, Callable


async def until(
    condition: Callable[[], Awaitable[object]], seconds: float = 20.0, *, every: float = 0.01
) -> None:
    """Return as soon as the condition holds; fail after ``seconds``.

    It is looked at again ``every`` so many seconds.
    """
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        await asyncio.sleep(every)
