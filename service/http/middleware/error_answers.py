"""Answers to errors: a problem document for programs, a page for people who look at pages."""

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from service.db.engine import DATABASE_AWAY
from service.http.problems import MEDIA_TYPE, ProblemError, problem_json, problem_of
from service.http.state import state_of


def install(app: FastAPI) -> None:
    """Answer the errors of routes, except unexpected ones: the request log answers those."""
    for kind in (ProblemError, RequestValidationError, HTTPException, *DATABASE_AWAY):
        app.add_exception_handler(kind, answer)


async def answer(request: Request, error: Exception) -> Response:
    """Return the answer to an error."""
    told = problem_of(error)
    wants_page = "text/html" in request.headers.get("accept", "")
    if wants_page and not request.url.path.startswith("/api/"):
        return state_of(request).problem_page(request, told.problem, told.headers)
    return Response(
        problem_json(told.problem),
        status_code=told.problem.status,
        media_type=MEDIA_TYPE,
        headers=told.headers,
    )
