"""Pages are for those who may see them, and no page of another site can send a form."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi.routing import APIRoute

from service.core.scopes import Role, Scope
from tests.integration.http.auth.conftest import STATISTICS, Web, assert_problem
from tests.system.browser.browser import PAGES, PASSWORD, Browser, browser, user, words


@pytest.fixture
async def jane(web: Web) -> AsyncIterator[Browser]:
    """Yield the browser of an admin who has signed in."""
    await user(web, Role.ADMIN)
    async with browser(web) as visitor:
        assert (await visitor.sign_in()).status_code == 303
        yield visitor


async def test_a_visitor_is_sent_to_sign_in_and_back_to_the_page(web: Web) -> None:
    await user(web)
    async with browser(web) as visitor:
        for page in PAGES.values():
            answer = await visitor.get(page + "?search=J%C3%B6rg%26&x=//y")
            assert answer.status_code == 303
            there = answer.headers["location"]
            assert there == f"/sign-in?next={page}%3Fsearch%3DJ%25C3%25B6rg%2526%26x%3D//y"
            asking = await visitor.get(there)
            assert f'value="{page}?search=J%C3%B6rg%26&amp;x=//y"' in asking.text
        posted = await visitor.post("/pages/form")
        assert (posted.status_code, posted.headers["location"]) == (303, "/sign-in")
        assert_problem(await visitor.get(STATISTICS), 401)


async def test_an_api_key_opens_pages_too(web: Web) -> None:
    key = await web.key(Scope.READ, Scope.WRITE, name="robot")
    async with browser(web, site=None) as visitor:
        assert (await visitor.get("/pages/read", headers=key.headers)).json() == "robot"
        assert (await visitor.get("/pages/admin", headers=key.headers)).status_code == 403
        answer = await visitor.post("/pages/form", headers=key.headers, data={"a": "b"})
        assert answer.json() == {"a": "b"}


async def test_a_form_needs_the_csrf_token_of_its_session(web: Web, jane: Browser) -> None:
    csrf = await jane.csrf()
    assert len(csrf) == 64
    assert csrf != jane.token
    for page in ("/pages/form", "/pages/unread"):
        assert (await jane.post(page, data={"csrf": csrf, "a": "b"})).status_code == 200
    async with browser(web) as other:
        await other.sign_in()
        of_another_session = await other.csrf()
    assert of_another_session != csrf
    wrong = ["", "x", csrf[:-1], csrf + "a", csrf.upper(), of_another_session, "ü", jane.token]
    for page in ("/pages/form", "/pages/unread"):
        assert (await jane.post(page)).status_code == 403
        for token in wrong:
            answer = await jane.post(page, data={"csrf": token})
            assert answer.status_code == 403, token
            assert "Load it again" in words(answer)
            headers = [(b"x-csrf-token", token.encode())]
            assert (await jane.post(page, headers=headers)).status_code == 403, token
        assert (await jane.post(page, headers={"x-csrf-token": csrf})).status_code == 200


async def test_the_api_takes_the_csrf_token_as_a_header_only(jane: Browser) -> None:
    csrf = await jane.csrf()
    for sent in ({}, {"data": {"csrf": csrf}}, {"json": {"csrf": csrf}}):
        refused = await jane.post("/probe/write", **sent)
        assert refused.status_code == 403
        assert "Load it again" in words(refused)
    answer = await jane.post("/probe/write", headers={"x-csrf-token": csrf})
    assert (answer.status_code, answer.json()) == (200, "jane@example.com")


async def test_no_route_changes_anything_without_a_csrf_token(web: Web, jane: Browser) -> None:
    routers = [getattr(route, "original_router", None) for route in web.app.routes]
    routes = [route for router in routers if router for route in router.routes]
    tried = set()
    for route in routes:
        assert isinstance(route, APIRoute)
        # Open to everybody, or to whoever signs the request.
        if route.path in {"/sign-in", "/probe/body", "/probe/json", "/hooks/{platform}"}:
            continue
        for method in (route.methods or set()) - {"GET", "HEAD", "OPTIONS"}:
            path = route.path.replace("{id}", "CUST-1001").replace("{", "").replace("}", "")
            answer = await jane.http.request(method, path)
            assert answer.status_code == 403, (method, path)
            assert "Load it again" in answer.text, (method, path)
            tried.add(f"{method} {route.path}")
    assert {"POST /sign-out", "PUT /api/v1/settings", "DELETE /api/v1/customers/{id}"} <= tried


async def test_a_file_is_taken_with_the_csrf_token_before_it(web: Web, jane: Browser) -> None:
    headers = {"sec-fetch-site": "same-origin"}
    files = {"file": ("c.csv", b"Email\na@x.org\n")}
    for fields, status in (({}, 403), ({"csrf": "x"}, 403), ({"csrf": await jane.csrf()}, 303)):
        answer = await jane.http.post("/imports", headers=headers, files=files, data=fields)
        assert answer.status_code == status
    assert len(await web.service.rows("SELECT id FROM imports")) == 1


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-site": "same-origin", "origin": "http://localhost"}, 200),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"origin": "http://localhost"}, 200),
        ({}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site", "origin": "http://localhost:3000"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://localhost:3000"}, 403),
        ({"origin": "null"}, 403),
    ],
)
async def test_a_change_must_come_from_this_origin(
    web: Web, jane: Browser, headers: dict[str, str], status: int
) -> None:
    proof = {"x-csrf-token": await jane.csrf()}
    async with browser(web, site=None) as visitor:
        fields = {"email": "jane@example.com", "password": PASSWORD}
        signed_in = await visitor.post("/sign-in", headers=headers, data=fields)
        assert signed_in.status_code == (303 if status == 200 else 403)
        assert ("set-cookie" in signed_in.headers) is (status == 200)
        visitor.http.cookies.clear()
        cookie = {"cookie": f"crm-session={jane.token}"}
        answer = await visitor.post("/pages/form", headers=headers | proof | cookie)
        assert answer.status_code == status
        assert (await visitor.get("/pages/read", headers=headers | cookie)).status_code == 200


async def test_a_form_value_that_is_not_text_is_refused(jane: Browser) -> None:
    surrogate = b'--b\r\nContent-Disposition: form-data; name="email"\r\n\r\n\\ud800\r\n--b--\r\n'
    odd = "multipart/form-data; charset=raw_unicode_escape; boundary=b"
    urlencoded = {"content-type": "application/x-www-form-urlencoded"}
    proof = {"x-csrf-token": await jane.csrf()}
    attempts: list[tuple[dict[str, Any], int]] = [
        ({"data": {"email": "a\0b"}}, 422),
        ({"files": {"email": ("a.txt", b"x")}}, 415),
        ({"content": surrogate, "headers": {"content-type": odd}}, 415),
        ({"content": b"email=%ff", "headers": urlencoded}, 200),
        ({"content": b"email=%f", "headers": urlencoded}, 422),
        ({"json": {"email": ["x"]}}, 415),
    ]
    for sent, status in attempts:
        asked = sent | {"headers": proof | sent.get("headers", {})}
        assert (await jane.post("/pages/form", **asked)).status_code == status, sent
        expected = 403 if status == 200 else status
        assert (await jane.post("/sign-in", **asked)).status_code == expected, sent
