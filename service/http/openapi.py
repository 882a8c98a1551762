"""The OpenAPI document: FastAPI's own, with the errors as they are on the wire.

FastAPI documents the model of an error as `application/json`; ours are `application/problem+json`.
It has no option for that (https://github.com/fastapi/fastapi/issues/3122), so the finished document
is changed.
"""

from typing import Any

from fastapi import FastAPI

from service.http.problems import MEDIA_TYPE

_EXAMPLES = {
    401: ("Not signed in", "There is no key, or it is unknown, expired or revoked."),
    403: ("Not allowed", "This key lacks the scope `write`."),
    404: ("Customer not found", "There is no customer with this id."),
    409: ("E-mail taken", "CUST-1002 has this e-mail; e-mails are compared without case."),
    412: ("Edited meanwhile", "Somebody has edited this customer since you read it."),
    413: ("Body too large", "The body has more than 1,048,576 bytes."),
    422: ("Invalid request", "body.email: is not an e-mail address, such as jane@example.com"),
    429: ("Too many requests", "Wait a second; `Retry-After` says how long."),
    503: ("Database unavailable", "The database did not answer; nothing was changed."),
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
            for status, response in operation["responses"].items():
                if status.isdigit() and int(status) >= 400:  # noqa: PLR2004  errors
                    _as_problem(int(status), response)
    return document


def _as_problem(status: int, response: dict[str, Any]) -> None:
    content = response.get("content", {})
    if "application/json" in content and "Problem" in str(content["application/json"]):
        problem = content.pop("application/json")
        if status in _EXAMPLES:
            title, detail = _EXAMPLES[status]
            problem["example"] = {
                "type": "about:blank",
                "title": title,
                "status": status,
                "detail": detail,
            }
        content[MEDIA_TYPE] = problem
