"""The first reader of a fresh process waits for nothing that could be done at its start."""

from typing import NoReturn

import httpx
import pytest
from fastapi.routing import _IncludedRouter
from jinja2 import Environment

from service.http.app import create_app, prepare
from service.http.dashboard import render
from tests.conftest import Service
from tests.events import entry


@pytest.mark.parametrize(
    "path",
    ["/", "/customers/CUST-1001", "/api/v1/customers", "/insight", "/retention", "/operations"],
)
async def test_a_prepared_process_has_compiled_its_first_pages(
    service: Service, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    def fail(*_: object) -> NoReturn:
        pytest.fail("this was left for the first reader")

    await service.ingest(entry("ORD-1", email="ana@x.org", name="Ana"))
    assert render._environment.cache is not None
    render._environment.cache.clear()
    app = create_app(service.web_config)
    prepare(app)
    monkeypatch.setattr(Environment, "compile", fail)
    monkeypatch.setattr(_IncludedRouter, "_build_effective_context", fail)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as web:
            answer = await web.get(path, headers={"accept": "text/html, application/json"})
    assert answer.status_code == 200
