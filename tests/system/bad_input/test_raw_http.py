"""Bytes that are no HTTP get an answer or a closed connection; other requests are served."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.conftest import Service
from tests.processes import HOST, Process, processes
from tests.system.bad_input.raw_http import ANSWERED, REFUSED, SILENT, UNFINISHED

GIVEN_UP = 1.0
PATIENCE = 30.0


@pytest.fixture(scope="module")
async def web(
    migrated: Service, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Process]:
    """Start a web process that gives up a request after a second."""
    await migrated.empty()
    async with processes(migrated.servers, tmp_path_factory.mktemp("web")) as started:
        yield await started.web(request_seconds=GIVEN_UP)


async def answer_to(web: Process, sent: bytes, *, drip: bytes = b"") -> bytes:
    """Send bytes, then ``drip`` repeatedly; return all that comes until the server hangs up."""
    reader, writer = await asyncio.open_connection(HOST, web.port)

    async def send() -> None:
        writer.write(sent)
        await writer.drain()
        while drip:
            writer.write(drip)
            await asyncio.sleep(GIVEN_UP / 10)

    sending = asyncio.create_task(send())
    try:
        answer = b""
        async with asyncio.timeout(PATIENCE):
            while piece := await reader.read(65_536):
                answer += piece
    except ConnectionError:
        pass  # the server hung up while we were still sending
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        writer.close()
    return answer


def problem(answer: bytes) -> dict[str, Any]:
    """Return the last answer, which must be a problem that says what was wrong."""
    *_, last = re.finditer(rb"HTTP/1\.1 \d{3} ", answer)
    head, _, body = answer[last.start() :].partition(b"\r\n\r\n")
    status = int(head.split()[1])
    assert b"application/problem+json" in head, answer
    assert b"nosniff" in head
    found: dict[str, Any] = json.loads(body)
    assert found["status"] == status
    assert len(found["detail"].split()) >= 2, found
    return found


async def still_serves(web: Process) -> None:
    status, _ = await web.ask("/api/v1/activity")
    assert status == 200, web.output


@pytest.mark.parametrize("name", REFUSED)
async def test_bytes_that_are_no_request_are_refused(web: Process, name: str) -> None:
    began = time.monotonic()
    answer = await answer_to(web, REFUSED[name])
    await still_serves(web)
    assert "Traceback" not in web.output
    if answer:  # a client that is still writing may lose the connection before it reads
        assert problem(answer)["status"] in {400, 403, 413, 431}
    assert time.monotonic() - began < PATIENCE


async def test_a_request_that_never_ends_is_given_up_and_delays_no_other(web: Process) -> None:
    everything = ANSWERED | UNFINISHED | SILENT
    asked = [
        (name, asyncio.create_task(answer_to(web, sent, drip=drip)))
        for name, sent in everything.items()
        for drip in [*[b""] * 20, b"\r\n" if name in SILENT else b"1"]
    ]
    await still_serves(web)
    for name, waiting in asked:
        answer = await waiting
        if name in SILENT:
            assert answer == b"", name
        elif name in UNFINISHED:
            assert problem(answer)["status"] in {400, 408}, name
    await still_serves(web)
    assert "Traceback" not in web.output
