"""Limits on the rate of requests, the size of bodies, and the time until an answer."""

import re
from collections.abc import AsyncIterator
from html import unescape

import httpx
import pytest

from service.core.scopes import Scope
from service.http.app import WRONG_KEYS_AT_ONCE, WRONG_KEYS_PER_SECOND
from service.http.body_limits import LONG_TEXT_BYTES, ORDINARY_BYTES
from tests.conftest import Service
from tests.integration.http.auth.conftest import STATISTICS, Web, assert_problem, serve


async def test_a_caller_over_the_limit_is_refused_with_the_seconds_to_wait(
    empty_service: Service,
) -> None:
    async with serve(empty_service, rate_limit_per_second=0.5, rate_limit_burst=3) as web:
        one, other = await web.key(Scope.READ), await web.key(Scope.READ)
        for _ in range(3):
            assert (await web.probe(Scope.READ, headers=one.headers)).status_code == 200
        refused = await web.probe(Scope.READ, headers=one.headers)
        assert_problem(refused, 429, "Try again in 3 s")
        assert refused.headers["retry-after"] == "3"
        assert (await web.probe(Scope.READ, headers=other.headers)).status_code == 200
        assert (await web.probe(Scope.READ)).status_code == 401  # by address
        for path in ("/livez", "/readyz"):
            assert (await web.http.get(path)).status_code == 200
        assert (await web.http.get("/metrics", headers=one.headers)).status_code == 200
        web.wait(2)
        assert (await web.probe(Scope.READ, headers=one.headers)).status_code == 200
        assert (await web.probe(Scope.READ, headers=one.headers)).status_code == 429


async def test_without_a_credential_requests_are_counted_by_address(empty_service: Service) -> None:
    async with serve(empty_service, rate_limit_per_second=1, rate_limit_burst=2) as web:
        assert [(await web.probe(Scope.READ)).status_code for _ in range(3)] == [200, 200, 429]
        assert [(await web.http.get("/livez")).status_code for _ in range(3)] == [200] * 3


async def test_wrong_keys_are_limited_more_strictly_than_requests(web: Web) -> None:
    key = await web.key(Scope.READ)
    wrong = {"x-api-key": key.text[:-4] + "AAAA"}
    for _ in range(int(WRONG_KEYS_AT_ONCE)):
        assert_problem(await web.http.get(STATISTICS, headers=wrong), 401)
    refused = await web.http.get(STATISTICS, headers=wrong)
    assert_problem(refused, 429)
    assert int(refused.headers["retry-after"]) <= 1 / WRONG_KEYS_PER_SECOND + 1
    # From the same address, behind the same proxy:
    assert (await web.http.get(STATISTICS, headers=key.headers)).status_code == 200
    web.wait(1 / WRONG_KEYS_PER_SECOND)
    assert_problem(await web.http.get(STATISTICS, headers=wrong), 401)
    assert_problem(await web.http.get(STATISTICS, headers=wrong), 429)


async def pieces(number: int, size: int = 512) -> AsyncIterator[bytes]:
    for _ in range(number):
        yield b" " * size


@pytest.mark.parametrize("path", ["/probe/body", "/probe/json"])
async def test_a_body_that_is_too_large_is_refused_announced_or_not(
    empty_service: Service, path: str
) -> None:
    async with serve(empty_service, max_body_bytes=2048) as web:
        kind = {"content-type": "application/json"}
        fits = await web.http.post(path, content=b"{}" + b" " * 2046, headers=kind)
        assert fits.status_code == 200, fits.text
        for content in (b"{}" + b" " * 2047, pieces(5), pieces(1, 2049), pieces(100_000)):
            answer = await web.http.post(path, content=content, headers=kind)
            assert_problem(answer, 413, "2,048 bytes")
            assert answer.headers["x-content-type-options"] == "nosniff"
        if path == "/probe/body":
            assert (await web.http.post(path, content=pieces(4))).json() == 2048


async def test_a_body_may_be_as_large_as_its_route_needs(web: Web) -> None:
    text = "\N{SNOWMAN WITHOUT SNOW}" * 20_000  # the longest note; JSON escapes each character
    address = "/api/v1/customers"
    jane = {"name": "Jane", "email": "jane@example.com", "notes": text}
    assert (await web.http.post(address, json=jane)).status_code == 201
    assert (await web.http.patch(f"{address}/CUST-1001", json={"notes": text})).status_code == 200
    noted = {"kind": "note", "text": text}
    interactions = f"{address}/CUST-1001/interactions"
    assert (await web.http.post(interactions, json=noted)).status_code == 201
    form = {"name": "John", "email": "john@example.com", "notes": text}
    for path in ("/customers/new", "/customers/CUST-1001/interactions"):
        saved = await web.http.post(path, data=form | noted)
        assert saved.status_code == 303, saved.text
    editor = await web.http.get("/customers/CUST-1001/edit", headers={"accept": "text/html"})
    (was,) = re.findall(r'name="was" value="([^"]*)"', editor.text)
    (etag,) = re.findall(r'name="etag" value="([^"]*)"', editor.text)
    edit = {**jane, "was": unescape(was), "etag": unescape(etag), "name": "Jane Smith"}
    saved = await web.http.post("/customers/CUST-1001/edit", data=edit)
    assert (saved.status_code, saved.headers.get("location")) == (303, "/customers/CUST-1001")

    kind = {"content-type": "application/json"}
    for path, most in (
        ("/api/v1/settings/preview", ORDINARY_BYTES),
        ("/api/v1/customers/search", ORDINARY_BYTES),
        ("/probe/json", ORDINARY_BYTES),
        ("/api/v1/customers", LONG_TEXT_BYTES),
    ):
        for content in (b"{" + b" " * most + b"}", pieces(most // 512 + 1)):
            answer = await web.http.post(path, content=content, headers=kind)
            assert_problem(answer, 413, f"{most:,} bytes")
    assert_problem(await web.http.post("/sign-in", data={"email": "a" * 70_000}), 413)


async def test_the_document_says_how_large_each_body_may_be(web: Web) -> None:
    document = web.app.openapi()
    limits = {
        f"{method} {path}": (
            operation["x-max-body-bytes"],
            operation["responses"]["413"]["description"],
        )
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if "x-max-body-bytes" in operation and not path.startswith("/probe/")
    }
    assert limits["post /api/v1/customers"] == (
        LONG_TEXT_BYTES,
        "The body is larger than 262,144 bytes.",
    )
    assert limits["put /api/v1/settings"][0] == ORDINARY_BYTES
    assert len(limits) > 6
    upload = document["paths"]["/api/v1/imports"]["post"]
    assert "CRM_MAX_IMPORT_BYTES" in upload["responses"]["413"]["description"]


async def test_a_document_may_have_as_many_parts_as_makes_sense(web: Web) -> None:
    address = "/api/v1/customers/search"
    for body, words in (
        ({"segment": ["vip"] * 501}, "has more than 500 values"),
        ({f"k{n}": {"a": 1} for n in range(251)}, "has more than 500 values"),
        ([[[[[[[[[[[]]]]]]]]]]], "is nested deeper than 10 levels"),
    ):
        answer = await web.http.post(address, json=body)
        assert_problem(answer, 422, words)
        assert answer.json()["errors"] == [
            {"where": "body", "message": answer.json()["detail"][6:]}
        ]
    assert (await web.http.post(address, json={"segment": ["vip"] * 499})).status_code == 200


async def test_an_invalid_content_length_does_not_lift_the_limit(empty_service: Service) -> None:
    async with serve(empty_service, max_body_bytes=2048) as web:
        headers = {"content-length": "-1"}
        answer = await web.http.post("/probe/body", content=b" " * 4096, headers=headers)
        assert_problem(answer, 413)


async def test_the_body_of_a_refused_request_is_not_read(web: Web) -> None:
    await web.key(Scope.READ)
    read = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(10):
            read += 1
            yield b"x"

    headers = {"x-api-key": "crm_aaaaaaaa_" + "a" * 43}
    assert_problem(await web.http.post("/probe/body", content=body(), headers=headers), 401)
    assert read == 0


async def test_a_request_is_given_up_unless_its_answer_begins_in_time(
    empty_service: Service,
) -> None:
    async with serve(empty_service, request_seconds=0.5) as web:
        answer = await web.http.get("/probe/hang")
        assert_problem(answer, 503, "0.5 s")
        assert answer.headers["retry-after"] == "5"
        streamed = await web.http.get("/probe/stream")  # begins at once, takes longer
        assert (streamed.status_code, streamed.text) == (200, "xxxx")


async def test_every_answer_has_safe_headers(web: Web) -> None:
    asked = [
        web.http.get("/livez"),
        web.http.get(STATISTICS),
        web.http.get("/nothing"),
        web.http.post(STATISTICS),
        web.http.get(STATISTICS, params={"period": "x"}),
        web.http.get("/probe/fail/x"),
        web.http.get(STATISTICS, headers={"x-api-key": "x"}),
    ]
    answers: list[httpx.Response] = [await request for request in asked]
    assert [answer.status_code for answer in answers] == [200, 200, 404, 405, 422, 500, 401]
    for answer in answers:
        headers = answer.headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert len(headers["x-request-id"]) == 16
    assert len({answer.headers["x-request-id"] for answer in answers}) == len(answers)
