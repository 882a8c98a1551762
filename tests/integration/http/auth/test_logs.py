"""The log has one line per request, and no personal data in any line."""

import io
import logging
import re
from collections.abc import Iterator

import asyncpg
import pytest
from pydantic import TypeAdapter
from sqlalchemy.exc import IntegrityError

from service.core.scopes import Scope
from service.logs import Discreet
from tests.conftest import Service
from tests.integration.http.auth.conftest import STATISTICS, Web

EMAIL = "jane.smith@example.com"
_LINE = re.compile(r"(\w+) (\S+|\(no route\)) (\d{3}) \d+\.\d ms (\S+) (\S+)")


@pytest.fixture
def log_output() -> Iterator[io.StringIO]:
    """Return what is logged, in the format of a real process."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Discreet("%(name)s %(levelname)s %(message)s"))
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # the test's own client
    yield stream
    root.setLevel(level)
    root.removeHandler(handler)


async def test_each_request_has_a_log_line_without_personal_data(
    web: Web, log_output: io.StringIO
) -> None:
    key = await web.key(Scope.READ, Scope.WRITE, name="Jane Smith's laptop")
    headers = {**key.headers, "X-Request-ID": "abc.123", "User-Agent": EMAIL, "Referer": EMAIL}
    await web.http.get(STATISTICS, params={"dateFrom": EMAIL}, headers=headers)
    await web.http.get(f"/probe/fail/{EMAIL}", headers=headers)
    await web.http.get(f"/{EMAIL}", headers=headers)
    await web.http.post("/probe/json", json=[EMAIL], headers=headers)
    await web.http.post("/probe/write", headers=headers)
    answer = await web.http.get(STATISTICS, headers={"X-Request-ID": EMAIL})
    own_id = answer.headers["x-request-id"]
    assert own_id != EMAIL
    prefix = "service.http.requests INFO "
    lines = [line for line in log_output.getvalue().splitlines() if line.startswith(prefix)]
    matches = [_LINE.fullmatch(line.removeprefix(prefix)) for line in lines]
    actor = f"key:{key.id}"
    assert [match.groups() for match in matches if match] == [
        ("GET", STATISTICS, "422", actor, "abc.123"),
        ("GET", "/probe/fail/{email}", "500", actor, "abc.123"),
        ("GET", "(no route)", "404", actor, "abc.123"),
        ("POST", "/probe/json", "422", actor, "abc.123"),
        ("POST", "/probe/write", "200", actor, "abc.123"),
        ("GET", STATISTICS, "401", "-", own_id),
    ]
    everything = log_output.getvalue()
    assert "builtins.ValueError" in everything
    assert "in _fail\n    raise ValueError(email)" in everything
    for secret in ("jane", "Jane", "example.com", key.text[13:]):
        assert secret not in everything


async def test_an_error_is_logged_by_its_class_and_causes_only(
    empty_service: Service, log_output: io.StringIO
) -> None:
    log = logging.getLogger("test")
    insert = "INSERT INTO users (email, email_key, password_hash, role) VALUES (:e, 'k', '', :r)"
    await empty_service.execute(insert, e=EMAIL, r="viewer")
    with pytest.raises(IntegrityError, match="hidden due to hide_parameters") as caught:
        await empty_service.execute(insert, e=EMAIL, r="admin")
    log.error("refused", exc_info=caught.value)
    try:
        try:
            TypeAdapter(int).validate_python(EMAIL)
        except ValueError as error:
            raise ExceptionGroup(EMAIL, [KeyError(EMAIL), error]) from error
    except ExceptionGroup:
        log.exception("several")
    lines = log_output.getvalue()
    assert EMAIL not in lines
    assert f"{asyncpg.UniqueViolationError.__module__}" in lines
    assert "23505" in lines
    assert "sqlalchemy.exc.IntegrityError" in lines
    assert "ValidationError\nwhich led to:" in lines
    assert "builtins.KeyError" in lines
    assert "builtins.ExceptionGroup" in lines
