"""The OpenAPI and AsyncAPI documents agree with the code."""

import json
from datetime import UTC, datetime
from typing import Any

import jsonschema_rs
import pytest

from service.core.envelope import Entry
from service.core.judge import Terms, judge
from service.core.order_event import OrderEvent
from service.http.asyncapi import ORDER_EXAMPLE, asyncapi
from tests.contracts import FOLDER, documents, openapi
from tests.events import cloud_event


@pytest.mark.parametrize("name", ["openapi.json", "asyncapi.yaml"])
def test_the_checked_in_documents_equal_the_generated_ones(name: str) -> None:
    assert (FOLDER / name).read_text() == documents()[name], "run `make contracts`"


def _schema(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = asyncapi()["components"]["schemas"][name]
    return schema


def test_the_order_example_is_valid_and_accepted() -> None:
    jsonschema_rs.validate(_schema("orders"), ORDER_EXAMPLE)
    read = Entry("1764000000000-0", {b"data": json.dumps(ORDER_EXAMPLE).encode()})
    verdict = judge(read, Terms("USD", 10**6), datetime.now(UTC))
    assert isinstance(verdict, OrderEvent)


@pytest.mark.parametrize("field", ["id", "totalAmount", "status", "dateCreated"])
def test_the_schema_requires_what_the_contract_requires(field: str) -> None:
    document = cloud_event(email="a@x.org")
    jsonschema_rs.validate(_schema("orders"), document)
    del document["data"][field]
    with pytest.raises(jsonschema_rs.ValidationError):
        jsonschema_rs.validate(_schema("orders"), document)


def _has_example(node: Any, schemas: dict[str, Any]) -> bool:
    if isinstance(node, list):
        return any(_has_example(item, schemas) for item in node)
    if not isinstance(node, dict):
        return False
    if "example" in node or "examples" in node:
        return True
    if "$ref" in node:
        return _has_example(schemas[node["$ref"].rpartition("/")[2]], schemas)
    return any(_has_example(value, schemas) for value in node.values())


def test_every_call_and_every_error_has_an_example() -> None:
    document = openapi()
    without = [
        f"{method} {path} {status}"
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        for status, answer in (
            *operation["responses"].items(),
            *([("request", operation["requestBody"])] if "requestBody" in operation else []),
        )
        if answer.get("content") and not _has_example(answer, document["components"]["schemas"])
    ]
    assert without == []
