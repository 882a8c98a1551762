"""A real web process answers a bad request with a problem that says what and where, never 5xx."""

import base64
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import Service
from tests.contracts import openapi
from tests.events import entry
from tests.integration.http.auth.test_every_route import operations
from tests.processes import HOST, processes
from tests.unit.core.test_order_event import anything

EXAMPLES = 15
"""Examples per operation."""
DOCUMENT = openapi()
# The live stream never ends.
OPERATIONS = {one.label: one for one in operations(DOCUMENT) if not one.label.endswith("/stream")}
WRITING = [label for label, one in OPERATIONS.items() if "json" in one.request]
INSIDES = ("Traceback", "sqlalchemy", "asyncpg", "pydantic", "SELECT ", ".py", "codec")
"""Words that no caller may be shown."""


@pytest.fixture(scope="module")
async def web(
    migrated: Service, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[httpx.AsyncClient]:
    """Start a web process; it must log no traceback."""
    async with processes(migrated.servers, tmp_path_factory.mktemp("web")) as started:
        web = await started.web(rate_limit_per_second=100_000, rate_limit_burst=1_000_000)
        url = f"http://{HOST}:{web.port}"
        async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
            yield client
        assert "Traceback" not in web.output


@pytest.fixture
async def http(web: httpx.AsyncClient, migrated: Service) -> httpx.AsyncClient:
    """Return a client; there are a few customers, dead letters and an unattributed order."""
    await migrated.empty()
    await migrated.ingest(
        *(entry(f"ORD-{n}", email=f"c{n % 5}@example.org") for n in range(12)),
        *(entry(f"BAD-{n}", email="c1@example.org", total="-1") for n in range(3)),
        entry("NOBODY-1"),
    )
    return web


def check(answer: httpx.Response) -> None:
    """Fail if the answer is 5xx, shows internals, or is an error that does not explain itself."""
    assert answer.status_code < 500, answer.text
    if answer.status_code < 400:
        return
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["title"]
    assert problem["detail"]
    for inside in INSIDES:
        assert inside not in answer.text
    if answer.status_code == 422:
        assert problem["errors"], problem
        for fault in problem["errors"]:
            assert fault["where"].partition(".")[0] in {"body", "query", "path", "header"}, fault
            assert len(fault["message"].split()) >= 2, fault


# --- Cursors


def tampered(cursor: str) -> list[str]:
    """Return texts that resemble the cursor: shorter, longer, and with other contents."""
    if cursor.isdigit():  # an id
        return [f"{cursor}x", f"-{cursor}", "9" * 30, "1e3", "١", ""]
    middle = len(cursor) // 2
    other = "B" if cursor[middle] == "A" else "A"
    readable = base64.urlsafe_b64encode(b'["Jane Smith", 1001, "nameASC"]').decode().rstrip("=")
    changed = [cursor[:middle] + other + cursor[middle + 1 :], other + cursor[1:]]
    lengths = [cursor[:-3], f"{cursor}AAAA", cursor[:16], "AAAA", "A", "A" * 6000, "A" * 6001]
    return [*changed, *lengths, cursor[::-1], cursor.upper(), "=", "é", "\x00", "A A", readable]


LISTS = [
    path
    for path, item in DOCUMENT["paths"].items()
    if any(it["name"] == "cursor" for it in item.get("get", {}).get("parameters", []))
]


@pytest.mark.parametrize("path", LISTS)
async def test_a_forged_cursor_is_refused_or_harmless(http: httpx.AsyncClient, path: str) -> None:
    url = OPERATIONS[f"get {path}"].request["url"].replace("/views/12/", "/views/no-email/")
    parameters = DOCUMENT["paths"][path]["get"]["parameters"]
    patterns = [it["schema"]["pattern"] for it in parameters if it["name"] == "sort"]
    for name in patterns[0].strip("^$-?()").split("|") if patterns else [""]:
        query = {"limit": 1} | ({"sort": name} if name else {})
        first = await http.get(url, params=query)
        assert first.status_code == 200, first.text
        cursor = first.json()["nextCursor"]
        for wrong in tampered(cursor or "WyJhIiwxLCJiIl0WyJhIiwxLCJiIl0"):
            check(await http.get(url, params=query | {"cursor": wrong}))


# --- Any request at all

_SPECIAL = (
    *("", " ", "0", "-1", "-0", "1e400", "NaN", "Infinity", "0x10", "9" * 400, "1_000", "١"),
    *("null", "true", "[]", "{}", "\x00", "%", "%00", "\ud800", "💵", "\u202e", "'; --", "../.."),
    *("2026-11-22", "0001-01-01", "9999-12-31T23:59:59-23:59", "2026-02-30", "2026-11-22T10:00"),
    *("CUST-1001", "CUST-0", "CUST-" + "9" * 18, "CUST-" + "9" * 19, "CUST-١", "x" * 10_000),
    *("vip", "-totalSpent", "invalid_amount", "month", "W10", "WyJhIiwxLCJiIl0"),
)
words = st.sampled_from(_SPECIAL) | st.text(st.characters(codec=None), max_size=20)
plain = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=40).map(str.strip)
headers = st.dictionaries(
    st.sampled_from(
        (
            *("If-Match", "If-None-Match", "Accept", "Accept-Encoding", "Range", "X-Request-ID"),
            *("Cookie", "X-Forwarded-For", "X-HTTP-Method-Override", "Last-Event-ID", "Forwarded"),
        )
    ),
    plain | st.sampled_from(["*", '"', 'W/""', "bytes=0-", "a" * 9000]),
    max_size=3,
)
types = st.sampled_from(
    ["application/json"] * 5
    + ["text/plain", "application/xml", "application/json; charset=utf-16", "a/b", ";", ""]
    + ["multipart/form-data; boundary=x", "application/x-www-form-urlencoded"]
)


def _quoted(text: str) -> str:
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


@st.composite
def requests(draw: Any, label: str) -> dict[str, Any]:
    """Draw a request for an operation: some of its parts are right, some are anything."""
    method, path = label.split(" ")
    operation = DOCUMENT["paths"][path][method]
    query = []
    for parameter in operation.get("parameters", []):
        name = parameter["name"]
        if parameter["in"] == "path":
            right = (
                OPERATIONS[label].request["url"].split("/")[path.split("/").index(f"{{{name}}}")]
            )
            path = path.replace(f"{{{name}}}", draw(st.just(right) | words.map(_quoted)))
        elif draw(st.booleans()):
            query += [f"{name}={_quoted(value)}" for value in draw(st.lists(words, max_size=2))]
    query += draw(st.lists(words.map(_quoted), max_size=1))
    request: dict[str, Any] = {"method": method.upper(), "url": f"{path}?{'&'.join(query)}"}
    given = draw(headers)
    if "json" in OPERATIONS[label].request or draw(st.booleans()):
        body = draw(st.just(OPERATIONS[label].request.get("json", {})) | anything)
        if isinstance(body, dict):
            body = body | draw(
                st.dictionaries(st.sampled_from([*body, *_NAMES]), anything, max_size=3)
            )
        text = json.dumps(body).encode()
        cut = draw(st.sampled_from([len(text)] * 6 + [0, len(text) // 2]))
        request["content"] = text[:cut] + draw(st.sampled_from([b""] * 6 + [b"\xff", b"\x00"]))
        given["Content-Type"] = draw(types)
    return request | {"headers": given}


_NAMES = sorted(
    {
        name
        for schema in DOCUMENT["components"]["schemas"].values()
        for name in schema.get("properties", {})
    }
)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
@pytest.mark.parametrize("label", OPERATIONS)
async def test_any_request_gets_a_sound_answer(
    http: httpx.AsyncClient, label: str, data: st.DataObject
) -> None:
    check(await http.request(**data.draw(requests(label))))


# --- Bodies

_BODIES: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"{",
    "two documents": b"{} {}",
    "a list": b"[]",
    "text": b'"name"',
    "null": b"null",
    "NaN": b'{"name": NaN}',
    "infinite": b'{"vipTotalSpent": 1e400, "atRiskDays": -1e400}',
    "Infinity": b'{"vipTotalSpent": Infinity}',
    "5,000 digits": b'{"atRiskDays": ' + b"9" * 5000 + b"}",
    "a long fraction": b'{"vipTotalSpent": 0.' + b"1" * 5000 + b"}",
    "deep": b"[" * 100_000,
    "deep and closed": b'{"address":' * 50_000 + b"1" + b"}" * 50_000,
    "no UTF-8": b'{"name": "\xff"}',
    "UTF-16": '{"name": "a"}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "half a pair": b'{"name": "\\ud800", "text": "\\udfff", "email": "\\ud800@x.org"}',
    "half a pair as a key": b'{"\\ud800": 1}',
    "NUL": b'{"name": "\\u0000", "text": "\\u0000", "email": "a@x.org\\u0000"}',
    "a key twice": b'{"name": "a", "name": 1}',
    "10,000 keys": json.dumps({f"k{n}": n for n in range(10_000)}).encode(),
    "gzip": b"\x1f\x8b\x08\x00",
    "a form": b"name=a&email=a%40x.org",
    "an enormous e-mail": b'{"name": "a", "email": "' + b"a" * 300_000 + b'@x.org"}',
    "2 MB": b'{"notes": "' + b"x" * 2_000_000 + b'"}',
}


@pytest.mark.parametrize("name", _BODIES)
async def test_a_bad_body_is_refused_by_every_operation(http: httpx.AsyncClient, name: str) -> None:
    for label in WRITING:
        request = {key: OPERATIONS[label].request[key] for key in ("method", "url", "params")}
        for kind in ("application/json", "text/plain"):
            answer = await http.request(
                **request, content=_BODIES[name], headers={"Content-Type": kind}
            )
            check(answer)
            # UTF-16 is read like any JSON: `{"name": "a"}` is an edit.
            harmless = {"a byte order mark", "nothing", "a key twice", "UTF-16"}
            assert answer.status_code >= 400 or name in harmless, (label, answer.text)
