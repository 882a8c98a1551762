"""Wait until a condition holds; tests never sleep for a fixed time."""

import asyncio
import time
from collections.abc import Awaitable, Callable

PATIENCE = 60.0
"""Seconds. It promises nothing about the service: a machine with other work may be this slow."""


async def until(
    condition: Callable[[], Awaitable[object]], seconds: float = PATIENCE, *, every: float = 0.01
) -> None:
    """Return as soon as the condition holds; fail after ``seconds``.

    The condition is checked again every ``every`` seconds. After a while it is checked less often,
    up to ten times a second: what it waits for needs the processor too.
    """
    started = time.monotonic()
    while not await condition():
        waited = time.monotonic() - started
        assert waited < seconds, f"not within {seconds} s"
        await asyncio.sleep(max(every, min(0.1, waited / 20)))
