"""The URLs of PostgreSQL and Redis: what PostgreSQL's may say, and how both are shown to people."""

import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote

_POSTGRES = re.compile(
    r"(?:postgresql|postgres|postgresql\+asyncpg)://"
    r"(?:(?P<user>[^:/@]*)(?::(?P<password>[^@]*))?@)?"
    r"(?P<hosts>[^/?]*)(?:/(?P<database>[^?]*))?(?:\?(?P<query>.*))?"
)
_HOST = re.compile(r"(?:\[[^\]]+\]|[^:\[\]]*)(?::[0-9]{1,5})?")
_SECRETS = {"password", "sslpassword"}
_OF_DRIVER = {
    "dbname",
    "host",
    "options",
    "passfile",
    "port",
    "sslcert",
    "sslcrl",
    "sslkey",
    "sslmode",
    "sslnegotiation",
    "sslrootcert",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "target_session_attrs",
    "user",
    *_SECRETS,
}
"""Parameters that asyncpg reads in the query of a URL, with libpq's meaning."""
_OURS = {"application_name", "connect_timeout"}
"""Parameters that asyncpg does not read, or that would not win over our own values there."""
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_FILES = ("passfile", "sslcert", "sslcrl", "sslkey", "sslrootcert")
SYSTEM = "system"
"""The value of ``sslrootcert`` that means the certificate authorities of the operating system."""

_SECRET_IN_URL = re.compile(
    r"(?P<before>\b[a-z][a-z0-9+.-]*://[^\s:/@?#]*:)[^\s@]+(?=@)"
    rf"|(?P<name>[?&](?:{'|'.join(sorted(_SECRETS))})=)[^&\s'\"]+",
    re.IGNORECASE,
)


class PostgresUrl(NamedTuple):
    """A URL of PostgreSQL, taken apart for asyncpg."""

    dsn: str
    """The URL with what asyncpg understands by itself."""
    connect_timeout: float | None
    """Seconds. None: not given."""
    application_name: str | None
    system_authorities: bool
    """Whether to check the certificate against the authorities of the operating system."""


def parse_postgres_url(url: str) -> PostgresUrl:
    """Take a URL of PostgreSQL apart; its parameters mean what they mean to libpq.

    Raises ValueError, whose message names the parameter that is wrong.
    """
    match = _POSTGRES.fullmatch(url)
    if match is None:
        msg = "must start with postgresql://, as in postgresql://user:password@host:5432/crm"
        raise ValueError(msg)
    if wrong := [host for host in match["hosts"].split(",") if not _HOST.fullmatch(host)]:
        msg = f"{wrong[0]}: must be a host, or a host and a port, as in db.example:5432"
        raise ValueError(msg)
    given = _parameters(match["query"] or "")
    timeout, system = _connect_timeout(given), _uses_system_authorities(given)
    _check_tls(given)
    login = ":".join(
        quote(unquote(part), safe="") for part in match.group("user", "password") if part
    )
    query = "&".join(
        f"{name}={quote(value, safe='')}"
        for name, value in given.items()
        if name in _OF_DRIVER and not (system and name in {"sslmode", "sslrootcert"})
    )
    dsn = "".join(
        (
            "postgresql://",
            f"{login}@" if login else "",
            match["hosts"],
            f"/{match['database']}" if match["database"] else "",
            f"?{query}" if query else "",
        )
    )
    return PostgresUrl(dsn, timeout, given.get("application_name"), system)


def masked(text: str) -> str:
    """Return the text with ``***`` in place of each password that stands in a URL."""
    if "://" not in text:
        return text
    return _SECRET_IN_URL.sub(lambda found: f"{found['before'] or found['name']}***", text)


def _parameters(query: str) -> dict[str, str]:
    """Return the parameters that have a value. Only percent signs are special in them."""
    pairs = (pair.partition("=") for pair in query.split("&") if pair)
    given = {unquote(name): unquote(value) for name, _, value in pairs if value}
    if unknown := sorted(given.keys() - _OF_DRIVER - _OURS):
        known = ", ".join(sorted(_OF_DRIVER | _OURS))
        msg = f"has a parameter that is not known here: {', '.join(unknown)}. Known are {known}"
        raise ValueError(msg)
    return given


def _connect_timeout(given: dict[str, str]) -> float | None:
    if (value := given.get("connect_timeout")) is None:
        return None
    if not re.fullmatch(r"[1-9][0-9]{0,4}", value):
        msg = f"connect_timeout={value}: must be a whole number of seconds, 1 or more"
        raise ValueError(msg)
    return float(value)


def _uses_system_authorities(given: dict[str, str]) -> bool:
    if given.get("sslrootcert") != SYSTEM:
        return False
    if given.get("sslmode", "verify-full") != "verify-full":
        msg = (
            f"sslrootcert=system goes with sslmode=verify-full only, not {given['sslmode']}: "
            "anybody can get a certificate from one of these authorities"
        )
        raise ValueError(msg)
    if unused := sorted(given.keys() & {"sslcert", "sslkey", "sslpassword", "sslcrl"}):
        msg = f"sslrootcert=system cannot be combined with {', '.join(unused)}: name a file instead"
        raise ValueError(msg)
    return True


def _check_tls(given: dict[str, str]) -> None:
    mode = given.get("sslmode", _SSL_MODES[0])
    if mode not in _SSL_MODES:
        msg = f"sslmode={mode}: must be one of {', '.join(_SSL_MODES)}"
        raise ValueError(msg)
    for name in _FILES:
        value = given.get(name)
        if value and not (name == "sslrootcert" and value == SYSTEM) and not Path(value).is_file():
            msg = (
                f"{name}={value}: there is no such file, or this user may not look into its folder"
            )
            raise ValueError(msg)
