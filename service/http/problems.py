"""Errors as RFC 9457 problem documents: what is wrong, where, and how to fix it."""

import logging
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from service.core.json_values import dumps
from service.db.engine import DATABASE_AWAY, sqlstate

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

_BAD_STATEMENT = "42"  # the SQLSTATE class of syntax errors and of missing tables and columns
_MOST_FAULTS = 20
"""Faults listed for one request, so that an answer does not grow with the mistakes in it."""
_LONGEST_NAME = 100
"""Characters of a field's name that an answer repeats."""
_HTTP_TITLES = {404: "Not found", 405: "Method not allowed", 413: "Body too large"}
_HTTP_DETAILS = {
    404: "There is nothing at this address.",
    405: "This address does not accept this method. `Allow` lists the methods that it accepts.",
}
"""Sentences for the errors that Starlette raises with their title only."""


class Fault(BaseModel):
    """One thing that is wrong with a request."""

    where: str = Field(examples=["query.period"])
    message: str


class Problem(BaseModel):
    """RFC 9457 problem details; some kinds add members of their own."""

    model_config = ConfigDict(extra="allow")

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[Fault] = []


ProblemPage = Callable[[Request, Problem, dict[str, str]], Response]
"""Renders a problem as a page for a browser, with these headers."""


class ProblemError(Exception):
    """A problem to answer the request with, and the headers of that answer."""

    def __init__(
        self,
        status: int,
        title: str,
        detail: str,
        errors: Sequence[Fault] = (),
        *,
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        """Describe the problem: a short title for its kind, a sentence for this case."""
        super().__init__(detail)
        self.headers = dict(headers or {})
        self.problem = Problem(
            title=title, status=status, detail=detail, errors=list(errors), **members
        )


def invalid(where: str, message: str) -> ProblemError:
    """Return the problem for one invalid part of a request."""
    faults = [Fault(where=where, message=message)]
    return ProblemError(422, "Invalid request", f"{where}: {message}", faults)


def database_unavailable() -> ProblemError:
    """Return the problem for a database that does not answer."""
    detail = "The database did not answer. Nothing was changed; try again in a few seconds."
    return ProblemError(503, "Database unavailable", detail, headers={"Retry-After": "5"})


def log_database_error(error: Exception) -> None:
    """Log a database error for the operator. The caller never sees its text."""
    state = sqlstate(error)
    if state.startswith(_BAD_STATEMENT):
        # The schema is not migrated yet, or the statement is wrong. The error has no values in it.
        log.error("the database refuses a statement (%s)", state, exc_info=error)
    else:
        log.warning("the database is away: %s %s", type(error).__name__, state)


def problem_of(error: Exception) -> ProblemError:
    """Return the problem to answer an error with. Log what only the operator may see."""
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, RequestValidationError):
        return _invalid_request(error)
    if isinstance(error, HTTPException):
        return _http_problem(error)
    if isinstance(error, DATABASE_AWAY):
        log_database_error(error)
        return database_unavailable()
    log.error("unexpected error", exc_info=error)
    detail = "The service failed. The log of the web process says why."
    return ProblemError(500, "Internal error", detail)


def _http_problem(error: HTTPException) -> ProblemError:
    status = error.status_code
    title = _HTTP_TITLES.get(status, HTTPStatus(status).phrase)
    detail = _HTTP_DETAILS.get(status, str(error.detail))
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:  # raised while a body is read
        return invalid("body", detail)
    return ProblemError(status, title, detail, headers=error.headers)


def _invalid_request(error: RequestValidationError) -> ProblemError:
    faults = [
        Fault(
            where=".".join(str(part)[:_LONGEST_NAME] for part in fault["loc"]),
            message=fault["msg"].removeprefix("Value error, "),
        )
        for fault in error.errors()[:_MOST_FAULTS]
    ]
    detail = "; ".join(f"{fault.where}: {fault.message}" for fault in faults)
    return ProblemError(422, "Invalid request", detail, faults)


def problem_json(problem: Problem) -> bytes:
    """Return a problem as JSON."""
    return dumps(problem.model_dump(exclude_defaults=True) | {"type": problem.type})


def example(value: object, media_type: str = "application/json") -> dict[int | str, Any]:
    """Return the documentation of an answer that no model describes: an example of it."""
    return {200: {"content": {media_type: {"example": value}}}}


DOCUMENTED: dict[int | str, dict[str, Any]] = {
    401: {"model": Problem, "description": "There is no credential, or it is not valid."},
    403: {"model": Problem, "description": "The credential lacks the scope that this needs."},
    408: {"model": Problem, "description": "The body did not arrive in time."},
    413: {"model": Problem, "description": "The body is too large."},
    422: {"model": Problem, "description": "The request is not valid; `errors` says where."},
    429: {
        "model": Problem,
        "description": "Too many requests. Try again after `Retry-After` seconds.",
    },
    503: {"model": Problem, "description": "The database is away; try again."},
}
"""The errors that every route may answer with, for the OpenAPI document."""
