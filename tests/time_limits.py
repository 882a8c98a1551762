"""End a test whose time is up, whatever it does, and start with the files that may take longest.

These are hooks of pytest, which `conftest` imports.
"""

import asyncio
import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

AGAIN_SECONDS = 10.0
"""Seconds until the next attempt to end a test that has caught the first one."""
CLEAN_UP_SECONDS = 10.0
"""Seconds that a test may take to clean up after itself."""


# pytest-timeout makes a test fail. Hypothesis takes that for a fault of the example, and tries
# others, which hang as well and have no timer. It does not catch what is no Exception.
class TimeIsUp(BaseException):
    """The test took longer than its `timeout`."""

    loop: asyncio.AbstractEventLoop | None = None
    """The event loop that was running."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Move the files with the longest time limits to the front.

    Else one of them starts when all others are done, and half of the machine has nothing to do.
    """
    limits: dict[Path, float] = {}
    for item in items:
        mark = item.get_closest_marker("timeout")
        limits[item.path] = max(limits.get(item.path, 0), mark.args[0] if mark else 0)
    items.sort(key=lambda item: -limits[item.path])


@pytest.hookimpl(wrapper=True)
def pytest_timeout_set_timer() -> Iterator[Any]:
    """Have the alarm of pytest-timeout raise `TimeIsUp`, until the test ends."""
    done = yield
    fail = signal.getsignal(signal.SIGALRM)
    assert callable(fail)

    def expire(number: int, frame: FrameType | None) -> None:
        # The alarm may ring in a task of the service, which logs any error and goes on.
        signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)
        try:
            fail(number, frame)
        except pytest.fail.Exception as failure:
            up = TimeIsUp(str(failure))
            with contextlib.suppress(RuntimeError):
                up.loop = asyncio.get_running_loop()
            raise up from None

    signal.signal(signal.SIGALRM, expire)
    return done


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Function) -> Iterator[None]:
    """Cancel the coroutine of a test whose time is up.

    All tests share an event loop. The coroutine would go on beside the next tests, and they would
    wait for what it has locked.
    """
    try:
        return (yield)
    except TimeIsUp as up:
        signal.setitimer(signal.ITIMER_REAL, 0)
        if up.loop is not None:
            _cancel(up.loop, item.originalname)
        raise


def _cancel(loop: asyncio.AbstractEventLoop, name: str) -> None:
    tasks = [
        task for task in asyncio.all_tasks(loop) if getattr(task.get_coro(), "__name__", "") == name
    ]
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks, timeout=CLEAN_UP_SECONDS))
