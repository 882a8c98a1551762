"""The OpenAPI document: FastAPI's own, with the errors as the service sends them.

FastAPI documents the model of an error as `application/json`; ours are `application/problem+json`.
It has no option for that (https://github.com/fastapi/fastapi/issues/3122), so the finished document
is changed.
"""

from typing import Any

import orjson
from fastapi import FastAPI

from service.core.scopes import Scope
from service.http.api.customer_json import NOT_AN_EMAIL
from service.http.api.customer_routes import edited_meanwhile, email_taken, not_found
from service.http.auth.caller import unauthorized
from service.http.auth.guard import lacks_scope
from service.http.body_limits import BODY_BYTES, ORDINARY_BYTES, UPLOAD, body_too_large
from service.http.problems import (
    MEDIA_TYPE,
    database_unavailable,
    invalid,
    problem_json,
    problem_of,
)
from service.http.rate_limits import too_many

_EXAMPLES = {
    error.problem.status: orjson.loads(problem_json(error.problem))
    for error in (
        unauthorized(),
        lacks_scope(Scope.WRITE),
        not_found(),
        email_taken("CUST-1002"),
        edited_meanwhile({"id": "CUST-1001"}),
        problem_of(body_too_large(ORDINARY_BYTES)),
        invalid("body.email", NOT_AN_EMAIL),
        too_many(1),
        database_unavailable(),
    )
}


def install(app: FastAPI) -> None:
    """Make the app return the finished document."""
    build = app.openapi

    def finished() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _finished(build())
        return app.openapi_schema

    app.openapi = finished  # type: ignore[method-assign]


def _finished(document: dict[str, Any]) -> dict[str, Any]:
    for operations in document["paths"].values():
        for operation in operations.values():
            most = operation.get(BODY_BYTES, ORDINARY_BYTES)
            limit = f"The body is larger than {most:,} bytes."
            if operation.pop(UPLOAD, False):
                limit = "The file is larger than `CRM_MAX_IMPORT_BYTES`."
            elif "requestBody" in operation:
                operation[BODY_BYTES] = most
            if too_large := operation["responses"].get("413"):
                too_large["description"] = limit
            for status, response in operation["responses"].items():
                if status.isdigit() and int(status) >= 400:  # noqa: PLR2004  errors
                    _as_problem(int(status), response)
    return document


def _as_problem(status: int, response: dict[str, Any]) -> None:
    content = response.get("content", {})
    if "application/json" in content and "Problem" in str(content["application/json"]):
        problem = content.pop("application/json")
        if status in _EXAMPLES:
            problem["example"] = _EXAMPLES[status]
        content[MEDIA_TYPE] = problem
