"""End asyncio tasks reliably."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

_CANCEL_AGAIN_SECONDS = 0.2


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they have ended. Errors that they raised stay with the tasks.

    One `cancel` is not enough: while a connection is being made, the client libraries sometimes
    swallow it (one time in twenty when measured), and the task would go on for ever. If the caller
    is cancelled meanwhile, it still leaves no task behind.
    """
    running = {task for task in tasks if not task.done()}
    cancelled: asyncio.CancelledError | None = None
    while running:
        for task in running:
            task.cancel()
        try:
            _, running = await asyncio.wait(running, timeout=_CANCEL_AGAIN_SECONDS)
        except asyncio.CancelledError as error:
            cancelled, running = error, {task for task in running if not task.done()}
    if cancelled:
        raise cancelled


async def together(*parts: Coroutine[Any, Any, None]) -> None:
    """Run parts at the same time until one of them raises; end the others, and raise its error.

    Whoever cancels this cancels every part, as often as they do it. `asyncio.TaskGroup` passes on
    the first cancellation only: a part that swallowed it went on for ever, and its worker did not
    stop.
    """
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        await asyncio.gather(*tasks)
    finally:
        await end(tasks)
