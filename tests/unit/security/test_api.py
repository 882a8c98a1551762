"""Risks of the OWASP API Security Top 10 that the documents and the code themselves rule out."""

import ast

from service.http.auth.guard import UNGUARDED
from tests.contracts import openapi
from tests.paths import ROOT

CLIENTS = {"httpx", "requests", "aiohttp", "urllib3", "urllib.request", "http.client", "smtplib"}
CONNECTING = {"open_connection", "create_connection", "urlopen"}


def test_every_body_refuses_unknown_fields() -> None:
    document = openapi()
    schemas = document["components"]["schemas"]
    bodies = {
        f"{method} {path}": schemas.get(schema.get("$ref", "").rpartition("/")[2], schema)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        for content in operation.get("requestBody", {}).get("content", {}).values()
        for schema in [content["schema"]]
    }
    assert len(bodies) >= 5
    assert [call for call, it in bodies.items() if it.get("additionalProperties") is not False] == (
        []
    )


def test_every_parameter_is_bounded() -> None:
    unbounded = [
        f"{method} {path} {parameter['name']}"
        for path, item in openapi()["paths"].items()
        for method, operation in item.items()
        for parameter in operation.get("parameters", [])
        for one in parameter["schema"].get("anyOf", [parameter["schema"]])
        if one.get("type") in {"integer", "number"} and "maximum" not in one
    ]
    assert unbounded == []


def test_every_operation_says_which_scope_it_needs() -> None:
    document = openapi()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            needed = operation.get("security", [])
            if path.startswith("/api/"):
                assert needed, f"{method} {path} needs no credential"
                assert all(scopes for way in needed for scopes in way.values()), path
            elif path in UNGUARDED:
                assert not needed


def test_the_service_has_no_client_that_a_caller_could_misuse() -> None:
    """Besides those of Postgres and Redis, there is one client: it sends webhooks.

    It checks the address of each connection, which `test_deliveries.py` tries.
    `service.local` checks whether its own servers listen. Traces, if they are on, go to the address
    that the operator's environment names.
    """
    found = set()
    for folder in ("service", "consumers", "migrations"):
        for file in (ROOT / folder).rglob("*.py"):
            used = set()
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Import):
                    used |= {alias.name for alias in node.names} & CLIENTS
                elif isinstance(node, ast.ImportFrom):
                    used |= {node.module or ""} & CLIENTS
                elif isinstance(node, ast.Attribute) and "local" not in file.parts:
                    used |= {node.attr} & CONNECTING
            found |= {f"{file.relative_to(ROOT)}: {it}" for it in used}
    assert found == {"consumers/sender.py: aiohttp"}
