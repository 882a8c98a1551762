"""``/view``: remember how this browser shows the pages. ``/shortcuts``: the keys."""

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from service.http.dashboard.render import local_path, page
from service.http.dashboard.view import COOKIE, YEAR_SECONDS, View
from service.http.dashboard.viewer import Form, Viewer

router = APIRouter(include_in_schema=False)


@router.post("/view")
async def change(request: Request, _: Viewer, fields: Form) -> Response:
    """Remember what the form chooses, and go back to the page that has it."""
    view = View.read(request.cookies.get(COOKIE, "")).changed(fields)
    response = RedirectResponse(local_path(fields.get("back", "/")), status_code=303)
    response.set_cookie(COOKIE, view.cookie, max_age=YEAR_SECONDS, httponly=True, samesite="strict")
    return response


@router.get("/shortcuts")
async def shortcuts(request: Request, actor: Viewer) -> Response:
    """List the keys, and let people switch them off."""
    return page(request, actor, "shortcuts.html")
