"""Headers of a trusted proxy are taken, and others are named in the log once for each source."""

import logging

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from service.http.middleware.forwarded import Forwarded

_SENT = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"}


async def _seen(scope: Scope, receive: Receive, send: Send) -> None:
    request = Request(scope)
    assert request.client
    seen = {"client": request.client.host, "scheme": request.url.scheme}
    await JSONResponse(seen)(scope, receive, send)


async def _ask(app: Forwarded, peer: str, headers: dict[str, str]) -> dict[str, str]:
    transport = httpx.ASGITransport(app, client=(peer, 4711))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        answer: dict[str, str] = (await http.get("/", headers=headers)).json()
        return answer


async def test_a_trusted_proxy_is_believed(caplog: pytest.LogCaptureFixture) -> None:
    app = Forwarded(_seen, "127.0.0.1,10.1.0.0/16")
    assert await _ask(app, "10.1.2.3", _SENT) == {"client": "203.0.113.7", "scheme": "https"}
    assert await _ask(app, "10.2.2.3", {}) == {"client": "10.2.2.3", "scheme": "http"}
    assert not caplog.records


async def test_another_one_is_not_and_the_log_names_the_setting_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = Forwarded(_seen, "127.0.0.1")
    with caplog.at_level(logging.WARNING):
        for peer in ("10.1.2.3", "10.1.2.4", "10.1.2.3"):
            assert await _ask(app, peer, _SENT) == {"client": peer, "scheme": "http"}
        await _ask(app, "2001:db8:1:2::3", _SENT)
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith("X-Forwarded headers from 10.1.2.0/24 are ignored")
    assert "FORWARDED_ALLOW_IPS" in first
    assert "2001:db8:1::/48" in second


async def test_strangers_cannot_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    app = Forwarded(_seen, "127.0.0.1")
    for number in range(300):
        await _ask(app, f"10.{number // 256}.{number % 256}.1", _SENT)
    assert len(caplog.records) == 100
