"""Answers to errors: a problem document for programs, a page for browsers."""

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from service.db.engine import DATABASE_AWAY
from service.http.problems import MEDIA_TYPE, ProblemError, problem_json, problem_of
from service.http.state import state_of


def install(app: FastAPI) -> None:
    """Register `answer` for the errors that routes raise. The request log answers all others."""
    for kind in (ProblemError, RequestValidationError, HTTPException, *DATABASE_AWAY):
        app.add_exception_handler(kind, answer)


async def answer(request: Request, error: Exception) -> Response:
    """Return a problem document, or a page if a browser asked for one."""
    refusal = problem_of(error)
    wants_page = "text/html" in request.headers.get("accept", "")
    if wants_page and not request.url.path.startswith("/api/"):
        return state_of(request).problem_page(request, refusal.problem, refusal.headers)
    return Response(
        problem_json(refusal.problem),
        status_code=refusal.problem.status,
        media_type=MEDIA_TYPE,
        headers=refusal.headers,
    )
