"""A URL of PostgreSQL means what it means to libpq, or an error names what is wrong in it."""

import asyncio
import logging
import re
from collections.abc import Callable

import asyncpg
import pytest
from alembic.util import CommandError
from redis import Redis
from sqlalchemy import create_engine

from service.config import Config, ConfigError
from service.logs import formatter, print_fatal_masked
from service.server_urls import masked, parse_postgres_url


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://h/crm", "must start with postgresql://"),
        ("postgresql://h:five/crm", "h:five: must be a host, or a host and a port"),
        ("postgresql://h/crm?sslmod=require", "a parameter that is not known here: sslmod"),
        ("postgresql://h/crm?channel_binding=require", "not known here: channel_binding"),
        ("postgresql://h/crm?sslmode=verify", "sslmode=verify: must be one of disable, allow"),
        ("postgresql://h/crm?sslrootcert=/no/ca.pem", "sslrootcert=/no/ca.pem: there is no such"),
        ("postgresql://h/crm?sslkey=/no/key.pem", "sslkey=/no/key.pem: there is no such"),
        ("postgresql://h/crm?connect_timeout=soon", "connect_timeout=soon: must be a whole number"),
        ("postgresql://h/crm?connect_timeout=0", "connect_timeout=0: must be a whole number"),
        ("postgresql://h/crm?sslrootcert=system&sslmode=require", "sslmode=verify-full only"),
        ("postgresql://h/crm?sslrootcert=system&sslcert=x", "cannot be combined with sslcert"),
    ],
)
@pytest.mark.parametrize("variable", ["CRM_DATABASE_URL", "CRM_DATABASE_READ_URL"])
def test_a_wrong_parameter_is_named(
    url: str, message: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, url)
    with pytest.raises(ConfigError, match=f"^{variable}: .*{re.escape(message)}"):
        Config.load()


@pytest.mark.parametrize(
    ("url", "dsn"),
    [
        ("postgres://u:p@h:1/crm", "postgresql://u:p@h:1/crm"),
        ("postgresql+asyncpg://u@h/crm", "postgresql://u@h/crm"),
        ("postgresql://u:p%40x@h/crm", "postgresql://u:p%40x@h/crm"),
        ("postgresql://u:a/b?c#d@h/crm", "postgresql://u:a%2Fb%3Fc%23d@h/crm"),
        (
            "postgresql://a:1,b:2/crm?target_session_attrs=read-write",
            "postgresql://a:1,b:2/crm?target_session_attrs=read-write",
        ),
        ("postgresql://[::1]:5432/crm", "postgresql://[::1]:5432/crm"),
        ("postgresql:///crm?host=/run/pg", "postgresql:///crm?host=%2Frun%2Fpg"),
        (
            "postgresql://h/crm?options=-c%20work_mem%3D1MB&sslmode=&connect_timeout=9",
            "postgresql://h/crm?options=-c%20work_mem%3D1MB",
        ),
        ("postgresql://h/crm?sslrootcert=system&sslmode=verify-full", "postgresql://h/crm"),
    ],
)
def test_a_url_is_taken_apart(url: str, dsn: str) -> None:
    parsed = parse_postgres_url(url)
    assert parsed.dsn == dsn
    assert parsed.system_authorities == ("system" in url)
    assert parsed.connect_timeout == (9 if "connect_timeout" in url else None)


SECRET = "hunter2"
URLS = (
    f"postgresql://crm:{SECRET}@db.example:5432/crm",
    f"postgresql+asyncpg://crm:{SECRET}@db.example/crm?sslmode=require",
    f"postgresql://crm@db.example/crm?password={SECRET}&sslpassword={SECRET}",
    f"redis://:{SECRET}@redis.example:6379/0",
    f"rediss://service:{SECRET}@a:1,rediss://service:{SECRET}@b:2",
    f"redis://redis.example/0?username=u&password={SECRET}",
)


@pytest.mark.parametrize("url", URLS)
def test_a_password_in_a_url_is_masked(url: str) -> None:
    shown = masked(f"cannot use '{url}': it is wrong")
    assert SECRET not in shown
    assert "***" in shown
    assert shown.startswith("cannot use '")
    assert shown.endswith("': it is wrong")


@pytest.mark.parametrize("url", ["redis://h:6379/0", "http://h:80/a", "no url: at@all"])
def test_a_url_without_a_password_stays(url: str) -> None:
    assert masked(url) == url


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_log_line_masks_the_password_of_a_url(form: str) -> None:
    record = logging.makeLogRecord({"msg": "using %s", "args": (URLS[0],)})
    line = formatter("json" if form == "json" else "text").format(record)
    assert SECRET not in line
    assert "crm:***@db.example" in line


def _alembic() -> None:
    raise CommandError(URLS[0])


def _ours() -> None:
    raise RuntimeError(URLS[0]) from ValueError(URLS[3])


@pytest.mark.parametrize(
    "fails",
    [
        lambda: create_engine(f"x {URLS[0]}"),
        lambda: asyncio.run(asyncpg.connect(f"x{URLS[0]}")),
        lambda: Redis.from_url(f"x{URLS[3]}"),
        lambda: Redis.from_url(f"redis://:{SECRET}@h:port/0"),
        _alembic,
        _ours,
    ],
    ids=["SQLAlchemy", "asyncpg", "redis", "redis's port", "alembic", "ours"],
)
def test_an_error_that_ends_a_command_masks_the_password(
    fails: Callable[[], object], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Exception) as raised:  # noqa: PT011  whatever the library raises
        fails()
    print_fatal_masked(raised.type, raised.value, raised.tb)
    printed = capsys.readouterr().err
    assert "Traceback" in printed
    assert SECRET not in printed
