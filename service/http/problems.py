"""Errors as RFC 9457 problem documents: what is wrong, where, and how to mend it."""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from service.core.json_values import dumps
from service.db.engine import DATABASE_AWAY, sqlstate

log = logging.getLogger(__name__)

_OUR_SQL = "42"  # the class of syntax errors and of what does not exist
MEDIA_TYPE = "application/problem+json"
_MOST_FAULTS = 20
"""Told of one request: an answer does not grow with the mistakes in it."""


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


class ProblemError(Exception):
    """Carries a problem to the handler below."""

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
        """Describe it: a short title for the kind, a sentence for the case."""
        super().__init__(detail)
        self.headers = dict(headers or {})
        self.problem = Problem(
            title=title, status=status, detail=detail, errors=list(errors), **members
        )


def invalid(where: str, message: str) -> ProblemError:
    """Say which part of a request is not valid."""
    faults = [Fault(where=where, message=message)]
    return ProblemError(422, "Invalid request", f"{where}: {message}", faults)


def example(value: object, media_type: str = "application/json") -> dict[int | str, Any]:
    """Document what a route answers, where no model has an example."""
    return {200: {"content": {media_type: {"example": value}}}}


DOCUMENTED: dict[int | str, dict[str, Any]] = {
    401: {"model": Problem, "description": "No credential, or one that does not open."},
    403: {"model": Problem, "description": "The credential lacks the scope that this needs."},
    408: {"model": Problem, "description": "The body did not arrive in time."},
    413: {"model": Problem, "description": "The body is too large."},
    422: {"model": Problem, "description": "The request is not valid; `errors` says where."},
    429: {"model": Problem, "description": "Too many requests; `Retry-After` says when to come."},
    503: {"model": Problem, "description": "The database is away; try again."},
}
"""For the OpenAPI document: what every route may answer."""


def _respond(request: Request, problem: Problem, headers: dict[str, str] | None = None) -> Response:
    as_page = getattr(request.app.state, "problem_page", None)
    looks = "text/html" in request.headers.get("accept", "")
    if as_page and looks and not request.url.path.startswith("/api/"):
        shown: Response = as_page(request, problem, headers or {})
        return shown
    return Response(
        dumps(problem.model_dump(exclude_defaults=True) | {"type": problem.type}),
        status_code=problem.status,
        media_type=MEDIA_TYPE,
        headers=headers,
    )


async def _known(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)  # noqa: S101  registered for nothing else
    return _respond(request, error.problem, error.headers)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  registered for nothing else
    faults = [
        Fault(
            where=".".join(str(part) for part in fault["loc"]),
            message=fault["msg"].removeprefix("Value error, "),
        )
        for fault in error.errors()[:_MOST_FAULTS]
    ]
    detail = "; ".join(f"{fault.where}: {fault.message}" for fault in faults)
    problem = Problem(title="Invalid request", status=422, detail=detail, errors=faults)
    return _respond(request, problem)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  registered for nothing else
    title = str(error.detail)
    problem = Problem(title=title, status=error.status_code, detail=title)
    return _respond(request, problem, dict(error.headers or {}))


async def _database_away(request: Request, error: Exception) -> Response:
    state = sqlstate(error)
    if state.startswith(_OUR_SQL):
        # Of a schema that is not migrated yet, or a mistake of ours; its values are not in it.
        log.error("the database refuses a statement (%s)", state, exc_info=error)
    else:
        log.warning("the database is away: %s %s", type(error).__name__, state)
    problem = Problem(
        title="Database unavailable",
        status=503,
        detail="The database did not answer. Nothing was changed; try again in a few seconds.",
    )
    return _respond(request, problem, {"Retry-After": "5"})


async def _unexpected(request: Request, error: Exception) -> Response:
    log.error("unexpected error", exc_info=error)
    return _respond(
        request,
        Problem(
            title="Internal error",
            status=500,
            detail="The service failed; the log of the web process says why.",
        ),
    )


_HANDLERS: dict[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
    ProblemError: _known,
    RequestValidationError: _invalid,
    HTTPException: _http,
    **dict.fromkeys(DATABASE_AWAY, _database_away),
    Exception: _unexpected,
}


async def answer(request: Request, error: Exception) -> Response:
    """Answer an error that comes up outside of the app's routes."""
    handler = next(_HANDLERS[kind] for kind in type(error).__mro__ if kind in _HANDLERS)
    return await handler(request, error)


def install(app: FastAPI) -> None:
    """Answer every error of the app with a problem document, or a page to who looks at pages."""
    for kind, handler in _HANDLERS.items():
        if kind is not Exception:  # unexpected ones are left to the edge, which answers them all
            app.add_exception_handler(kind, handler)
