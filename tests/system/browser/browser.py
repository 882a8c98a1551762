"""A stand-in for a browser without scripts, test pages for each scope, and users to sign in."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import Request

from service.core.scopes import Role, Scope
from service.db.accounts import users
from service.http.dashboard.viewer import Admin, Editor, Eraser, Exporter, Form, Viewer, csrf_token
from tests.integration.http.auth.conftest import Web, routes_by_scope

PASSWORD = "correct horse battery"
PAGES = {scope: f"/pages/{scope}" for scope in Scope}

pages = routes_by_scope(
    "/pages",
    {
        Scope.READ: Viewer,
        Scope.WRITE: Editor,
        Scope.EXPORT: Exporter,
        Scope.ERASE: Eraser,
        Scope.ADMIN: Admin,
    },
)


@pages.get("/token")
async def _token(request: Request, _: Viewer) -> str:
    return csrf_token(request)


@pages.post("/form")
async def _form(fields: Form, _: Editor) -> dict[str, str]:
    return dict(fields)


@pages.post("/unread")
async def _unread(actor: Editor) -> str:
    return actor.name


async def user(web: Web, role: Role = Role.EDITOR, email: str = "jane@example.com") -> users.User:
    """Add a user, and wait until the application no longer caches that there is none."""
    async with web.service.engine.begin() as connection:
        added = await users.add_user(connection, email, PASSWORD, role, actor="test")
    web.wait()
    return added


class Browser:
    """Keeps cookies, sends `Sec-Fetch-Site` as browsers do, and follows no redirect."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def sign_in(
        self, email: str = "jane@example.com", password: str = PASSWORD, **more: str
    ) -> httpx.Response:
        fields = {"email": email, "password": password, **more}
        return await self.http.post("/sign-in", data=fields)

    async def get(self, path: str, **more: Any) -> httpx.Response:
        return await self.http.get(path, **more)

    async def post(self, path: str, **more: Any) -> httpx.Response:
        return await self.http.post(path, **more)

    async def csrf(self) -> str:
        token: str = (await self.get("/pages/token")).json()
        return token

    @property
    def token(self) -> str:
        """The session token in the cookie."""
        return self._cookie("crm-session")

    @property
    def device(self) -> str:
        """The token by which the browser is known again."""
        return self._cookie("crm-device")

    def _cookie(self, name: str) -> str:
        cookies = self.http.cookies
        [token] = [value for key, value in cookies.items() if key.removeprefix("__Host-") == name]
        return token


@asynccontextmanager
async def browser(
    web: Web, scheme: str = "http", address: str = "127.0.0.1", site: str | None = "same-origin"
) -> AsyncIterator[Browser]:
    """Open a browser whose requests come from ``address``."""
    headers = {"accept": "text/html"} | ({"sec-fetch-site": site} if site else {})
    transport = httpx.ASGITransport(web.app, client=(address, 1))
    url = f"{scheme}://localhost"
    async with httpx.AsyncClient(transport=transport, base_url=url, headers=headers) as http:
        yield Browser(http)


def words(response: httpx.Response) -> str:
    """Return the text of a page, without its markup."""
    assert response.headers["content-type"].startswith("text/html"), response.text
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", response.text))
