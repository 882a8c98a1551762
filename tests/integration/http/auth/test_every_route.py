"""Each scope is tried on every operation of the OpenAPI document, so that none is forgotten."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import httpx
from fastapi.routing import APIRoute

from service.core.scopes import Scope
from service.db.accounts import api_keys
from tests.conftest import Service
from tests.events import entry
from tests.integration.http.auth.conftest import Web, serve

_UNDOCUMENTED = {"get /metrics": "read"}
"""Not in the OpenAPI document: only Prometheus needs it, and docs/http.md describes it."""
_SHOWN = {
    "id": "CUST-1001",
    "interaction": "1",
    "name": "overdue",
    "reason": "invalid_amount",
    "why": "a test",
}


class Operation(NamedTuple):
    label: str
    """Method and path as documented."""
    scope: str | None
    """The documented scope; None: no credential is needed."""
    request: dict[str, Any]
    """Arguments of `httpx.AsyncClient.request`, valid enough to reach the handler."""


def _example(schema: dict[str, Any], document: dict[str, Any]) -> Any:
    name = schema.get("$ref", "").rpartition("/")[2]
    resolved = document["components"]["schemas"][name] if name else schema
    return (resolved.get("examples") or [{}])[0]


def _scope(label: str, operation: dict[str, Any]) -> str | None:
    ways = operation.get("security")
    if not ways:
        return _UNDOCUMENTED.get(label)
    scopes = {tuple(scopes) for way in ways for scopes in way.values()}
    assert len(scopes) == 1, f"{label}: the ways to authenticate need different scopes"
    ((scope,),) = scopes
    return str(scope)


def operations(document: dict[str, Any]) -> Iterator[Operation]:
    """Return every documented operation, without the routes that only the tests have."""
    for path, item in document["paths"].items():
        if path.startswith("/probe/"):
            continue
        for method, operation in item.items():
            label = f"{method} {path}"
            url, query = path, {}
            for parameter in operation.get("parameters", []):
                name = parameter["name"]
                examples = parameter["schema"].get("examples", [None])
                if parameter["in"] == "path":
                    url = url.replace(f"{{{name}}}", str(examples[0] or _SHOWN[name]))
                elif parameter.get("required"):
                    query[name] = _SHOWN[name]
            request: dict[str, Any] = {"method": method.upper(), "url": url, "params": query}
            if "requestBody" in operation:
                content = operation["requestBody"]["content"]
                if "application/json" in content:
                    request["json"] = _example(content["application/json"]["schema"], document)
                else:
                    request["files"] = {"file": ("customers.csv", b"Email\na@x.org\n")}
            yield Operation(label, _scope(label, operation), request)


def _outcome(answer: httpx.Response) -> str:
    """Return "through", or the status and the scope that a refusal names."""
    if answer.status_code in {401, 403}:
        problem = answer.json()
        assert problem["status"] == answer.status_code
        named = [scope for scope in Scope if f"`{scope}`" in problem["detail"]]
        return " ".join([str(answer.status_code), *named])
    assert answer.status_code < 500, answer.text
    return "through"


async def _try_all(web: Web, headers: dict[str, str]) -> dict[str, str]:
    outcomes = {}
    for operation in operations(web.app.openapi()):
        web.wait(100)  # wrong keys are limited
        answer = await web.http.request(headers=headers, **operation.request)
        outcomes[operation.label] = _outcome(answer)
    return outcomes


def _expected(web: Web, scope: Scope) -> dict[str, str]:
    return {
        operation.label: "through" if operation.scope in {None, scope} else f"403 {operation.scope}"
        for operation in operations(web.app.openapi())
    }


async def test_each_scope_opens_what_is_documented_and_nothing_else(
    empty_service: Service,
) -> None:
    async with serve(empty_service, stopping=lambda: True) as web:  # ends live streams
        for scope in Scope:
            await web.service.empty()
            await web.service.ingest(entry(email="a@example.org"), entry("ORD-2", total="-1"))
            key = await web.key(scope)
            expected = _expected(web, scope)
            assert await _try_all(web, key.headers) == expected
            assert await _try_all(web, {"X-API-Key": key.text}) == expected
            assert "through" in expected.values()
            assert f"403 {scope}" not in expected.values()


async def test_without_a_valid_key_every_protected_operation_is_refused(web: Web) -> None:
    await web.key(*Scope)
    expired = await web.key(*Scope, expires=datetime.now(UTC) - timedelta(microseconds=1))
    revoked = await web.key(*Scope)
    async with web.service.engine.begin() as connection:
        assert await api_keys.revoke_key(connection, revoked.id, actor="test")
    web.wait()
    expected = {
        operation.label: "401" if operation.scope else "through"
        for operation in operations(web.app.openapi())
    }
    assert await _try_all(web, {}) == expected
    assert await _try_all(web, expired.headers) == expected
    assert await _try_all(web, revoked.headers) == expected


async def test_the_document_contains_every_route_of_the_api(web: Web) -> None:
    documented = {operation.label for operation in operations(web.app.openapi())}
    routers = [getattr(route, "original_router", None) for route in web.app.routes]
    routes = [route for router in routers if router for route in router.routes]
    assert len(routes) > 30
    for route in routes:
        assert isinstance(route, APIRoute)
        for method in (route.methods or ()) if route.path.startswith("/api/") else ():
            assert f"{method.lower()} {route.path_format}" in documented


async def test_every_scope_is_needed_by_some_operation(web: Web) -> None:
    needed = {operation.scope for operation in operations(web.app.openapi())}
    assert needed == {None, *Scope}
