"""A file may take the time that it needs, if it arrives fast enough."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from service.http.body_limits import UPLOAD
from service.http.middleware.time_limits import SLOWEST_BYTES_PER_SECOND, Deadline
from service.http.problems import ProblemError

SECONDS = 30.0


async def deliver(
    monkeypatch: pytest.MonkeyPatch, pieces: list[int], *, gap: float, upload: bool
) -> int:
    """Send a body of pieces of these sizes, ``gap`` seconds apart; return the bytes that arrive."""
    loop = asyncio.get_running_loop()
    clock, passed = loop.time, 0.0
    monkeypatch.setattr(loop, "time", lambda: clock() + passed)
    waiting = [*pieces]

    async def receive() -> dict[str, Any]:
        nonlocal passed
        passed += gap
        for _ in range(3):
            await asyncio.sleep(0)  # so that the loop looks at its clock
        return {"type": "http.request", "body": b"a" * waiting.pop(), "more_body": bool(waiting)}

    read = 0

    async def application(_scope: Any, receive: Any, _send: Any) -> None:
        nonlocal read
        while True:
            message = await receive()
            read += len(message["body"])
            if not message["more_body"]:
                return

    extra = {UPLOAD: True} if upload else {}
    scope = {"type": "http", "route": SimpleNamespace(openapi_extra=extra)}
    await Deadline(application, SECONDS)(scope, receive, _nowhere)
    monkeypatch.undo()
    return read


async def _nowhere(_message: Any) -> None:
    """Send nothing."""


async def test_a_file_that_arrives_steadily_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    piece = 20 * SLOWEST_BYTES_PER_SECOND
    assert await deliver(monkeypatch, [piece] * 10, gap=20, upload=True) == 10 * piece


@pytest.mark.parametrize(
    ("pieces", "gap", "upload"),
    [
        ([20 * SLOWEST_BYTES_PER_SECOND] * 10, 20.0, False),
        ([20 * SLOWEST_BYTES_PER_SECOND] * 10, 31.0, True),
        ([10 * SLOWEST_BYTES_PER_SECOND] * 10, 20.0, True),
        ([1] * 1000, 1.0, True),
    ],
    ids=["not a file", "a pause", "too slow", "drop by drop"],
)
async def test_other_bodies_are_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, pieces: list[int], gap: float, *, upload: bool
) -> None:
    with pytest.raises(ProblemError) as refused:
        await deliver(monkeypatch, pieces, gap=gap, upload=upload)
    assert refused.value.problem.status == 408
