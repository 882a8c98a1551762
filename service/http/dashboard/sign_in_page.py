"""``/sign-in`` and ``/sign-out``."""

import hashlib
import math
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from starlette.responses import RedirectResponse, Response

from service.db.accounts import sessions, users
from service.http.auth.guard import identified_caller, refuse_other_origins
from service.http.auth.session_cookies import (
    delete_session_cookie,
    session_token,
    set_session_cookie,
)
from service.http.dashboard.render import done, local_path, page
from service.http.dashboard.viewer import Form, Viewer
from service.http.rate_limits import address_of
from service.http.state import state_of

router = APIRouter(include_in_schema=False)

_WRONG = "The e-mail or the password is wrong, or the account is disabled."


@router.get("/sign-in")
async def show(
    request: Request,
    then: Annotated[str, Query(alias="next")] = "/",
    again: Annotated[str | None, Query()] = None,
) -> Response:
    """Show the sign-in form. Redirect people who are signed in already."""
    if identified_caller(request).actor:
        return RedirectResponse(local_path(then), status_code=303)
    answer = await _show(request, then)
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
    failures = state.failed_attempts
    # Accounts that do not exist are limited, too. Only a hash of the typed e-mail is stored.
    account = "account:" + hashlib.sha256(email.strip().lower().encode()).hexdigest()
    address = address_of(request.scope)
    if wait := failures.take(address) or failures.take(account):
        seconds = math.ceil(wait)
        fault = f"Too many attempts. Try again in {seconds} seconds."
        answer = await _show(request, then, email, fault, 429)
        answer.headers["Retry-After"] = str(seconds)
        return answer
    # Hashing is slow on purpose. A sign-in that waits for its turn holds no database connection.
    async with state.sign_ins, state.engine.begin() as connection:
        user = await users.verify_password(connection, email, fields.get("password", ""))
        token = await sessions.start(connection, user.id) if user else None
    if token is None:
        return await _show(request, then, email, _WRONG, 403)
    failures.give_back(address)
    failures.give_back(account)
    if old := session_token(request):
        await state.credentials.end_session(old)
    answer = RedirectResponse(local_path(then), status_code=303)
    set_session_cookie(request, answer, token)
    return answer


@router.post("/sign-out")
async def sign_out(request: Request, _: Viewer) -> Response:
    """End the session."""
    if token := session_token(request):
        await state_of(request).credentials.end_session(token)
    answer = done("/sign-in", "signed-out")
    delete_session_cookie(request, answer)
    return answer


async def _show(
    request: Request, then: str, email: str = "", fault: str = "", status: int = 200
) -> Response:
    async with state_of(request).engine.connect() as connection:
        no_users = not await users.anybody_can_sign_in(connection)
    return page(
        request,
        None,
        "sign_in.html",
        status=status,
        then=local_path(then),
        email=email,
        fault=fault,
        no_users=no_users,
    )
