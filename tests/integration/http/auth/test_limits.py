"""How often a caller may ask, how much they may send, and how long an answer may take."""

from collections.abc import AsyncIterator

import httpx
import pytest

from service.core.scopes import Scope
from service.http.app import ATTEMPTS_AT_ONCE, ATTEMPTS_PER_SECOND
from service.http.rate_limits import _MOST_BUCKETS, Buckets, address_of
from tests.conftest import Service
from tests.integration.http.auth.conftest import STATISTICS, Web, assert_problem, serve


async def test_a_caller_who_asks_too_often_learns_when_to_come_back(
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
    for _ in range(int(ATTEMPTS_AT_ONCE)):
        assert_problem(await web.http.get(STATISTICS, headers=wrong), 401)
    refused = await web.http.get(STATISTICS, headers=wrong)
    assert_problem(refused, 429)
    assert int(refused.headers["retry-after"]) <= 1 / ATTEMPTS_PER_SECOND + 1
    # From the same address, behind the same proxy:
    assert (await web.http.get(STATISTICS, headers=key.headers)).status_code == 200
    web.wait(1 / ATTEMPTS_PER_SECOND)
    assert_problem(await web.http.get(STATISTICS, headers=wrong), 401)
    assert_problem(await web.http.get(STATISTICS, headers=wrong), 429)


def test_buckets_fill_up_to_their_burst_and_no_further() -> None:
    time = 0.0
    buckets = Buckets(rate=2, burst=4, clock=lambda: time)
    assert [buckets.take("a") for _ in range(5)] == [0, 0, 0, 0, 0.5]
    assert (buckets.wait("a"), buckets.wait("b")) == (0.5, 0)
    time = 0.25
    assert buckets.take("a") == 0.25
    time = 0.5
    assert [buckets.take("a") for _ in range(2)] == [0, 0.5]
    time = 1000.0
    assert [buckets.take("a") for _ in range(5)] == [0, 0, 0, 0, 0.5]


def test_the_number_of_buckets_is_limited() -> None:
    time = 0.0
    buckets = Buckets(rate=1, burst=2, clock=lambda: time)
    assert [buckets.take("busy") for _ in range(2)] == [0, 0]
    for number in range(_MOST_BUCKETS - 1):
        buckets.take(str(number))
    time = 1.0  # all but one are full again
    buckets.take("one more")
    assert len(buckets._buckets) == 2
    assert buckets.wait("busy") == 0


@pytest.mark.parametrize(
    ("client", "caller"),
    [
        (("192.0.2.7", 1), "192.0.2.7"),
        (("2001:db8:1:2:3:4:5:6", 1), "2001:db8:1:2::/64"),
        (("2001:db8:1:2::9", 1), "2001:db8:1:2::/64"),
        (("::ffff:192.0.2.7", 1), "::ffff:192.0.2.7"),
        (("socket", 1), "socket"),
        (None, "unknown"),
    ],
)
def test_callers_with_ipv6_are_counted_by_network(
    client: tuple[str, int] | None, caller: str
) -> None:
    assert address_of({"client": client}) == caller


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
