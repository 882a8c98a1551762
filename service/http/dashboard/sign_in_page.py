"""``/sign-in`` and ``/sign-out``."""

import math
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from starlette.responses import RedirectResponse, Response

from service.db.accounts import devices, sessions, users
from service.db.accounts.sessions import Ending
from service.http.auth.cookies import (
    delete_session_cookie,
    device_token,
    session_token,
    set_device_cookie,
    set_session_cookie,
)
from service.http.auth.guard import identified_caller, refuse_other_origins
from service.http.dashboard.render import done, local_path, page
from service.http.dashboard.viewer import Form, Viewer
from service.http.rate_limits import LaneFullError, address_of, network_of
from service.http.sign_in_limits import attempt
from service.http.state import state_of

router = APIRouter(include_in_schema=False)

_WRONG = "The e-mail or the password is wrong, or the account is disabled."
_BUSY_SECONDS = 3
_ENDINGS = {
    Ending.IDLE: "Your session ended after one hour without use.",
    Ending.AGE: "Your session ended twelve hours after you signed in.",
    Ending.OTHER: "Your session has ended.",
}


@router.get("/sign-in")
async def show(
    request: Request,
    then: Annotated[str, Query(alias="next")] = "/",
    again: Annotated[str | None, Query()] = None,
) -> Response:
    """Show the sign-in form. Redirect people who are signed in already."""
    if identified_caller(request).actor:
        return RedirectResponse(local_path(then), status_code=303)
    answer = await _show(request, then, ended=await _why_ended(request))
    if again is None and request.headers.get("sec-fetch-site") not in {"same-origin", "none"}:
        # Browsers send no strict cookie with a link from another site, so people who are signed in
        # may land here. Browsers do send it when this page loads itself again, so it does.
        destination = quote(local_path(then), safe="")
        answer.headers["Refresh"] = f"0; url=/sign-in?again=1&next={destination}"
    return answer


@router.post("/sign-in")
async def sign_in(request: Request, fields: Form) -> Response:
    """Start a new session, end the browser's earlier one, and return to the page before."""
    refuse_other_origins(request, strict=True)  # no other site may sign a browser in
    state = state_of(request)
    email, then = fields.get("email", ""), fields.get("next", "/")
    email_key = users.email_key(email)
    device = device_token(request)
    known = device is not None and email_key in await state.credentials.find_device(device)
    this = attempt(address_of(request.scope), email_key, device if known else None)
    if wait := state.sign_ins.take(this):
        return await _refuse(request, then, email, "Too many attempts.", 429, math.ceil(wait))
    password, network = fields.get("password", ""), network_of(request.scope)
    try:
        # Hashing is slow on purpose. A sign-in that waits for its turn holds no connection to the
        # database, because other requests need those.
        async with state.sign_ins.lane(this).turn(), state.engine.begin() as connection:
            user = await users.verify_password(connection, email, password, network=network)
            if user is not None:
                session = await sessions.start(connection, user.id)
                device = await devices.remember(connection, device, user.id)
    except LaneFullError:
        state.sign_ins.give_back(this)
        busy = "Very many people are signing in at this moment."
        return await _refuse(request, then, email, busy, 503, _BUSY_SECONDS)
    if user is None or device is None:
        return await _show(request, then, email, _WRONG, 403)
    state.sign_ins.give_back(this)
    if old := session_token(request):
        await state.credentials.end_session(old)
    answer = RedirectResponse(local_path(then), status_code=303)
    set_session_cookie(request, answer, session)
    set_device_cookie(request, answer, device)
    return answer


@router.post("/sign-out")
async def sign_out(request: Request, _: Viewer) -> Response:
    """End the session."""
    if token := session_token(request):
        await state_of(request).credentials.end_session(token)
    answer = done("/sign-in", "signed-out")
    delete_session_cookie(request, answer)
    return answer


async def _why_ended(request: Request) -> str:
    """Return why the browser's session ended; empty if the browser had none."""
    token = session_token(request)
    if token is None:
        return ""
    async with state_of(request).engine.connect() as connection:
        return _ENDINGS[await sessions.why_ended(connection, token)]


async def _refuse(
    request: Request, then: str, email: str, why: str, status: int, seconds: int
) -> Response:
    fault = f"{why} Try again in {seconds} seconds."
    answer = await _show(request, then, email, fault, status)
    answer.headers["Retry-After"] = str(seconds)
    return answer


async def _show(
    request: Request,
    then: str,
    email: str = "",
    fault: str = "",
    status: int = 200,
    *,
    ended: str = "",
) -> Response:
    return page(
        request,
        None,
        "sign_in.html",
        status=status,
        then=local_path(then),
        email=email,
        fault=fault,
        ended=ended,
        nobody=not (await state_of(request).credentials.access()).by_password,
    )
