"""The users of Redis that `deploy/redis/users.acl` describes, on the servers of a test run."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from redis import Redis

from tests.paths import DEPLOY

ACL = DEPLOY / "redis/users.acl"
PASSWORD = "test-of-users"
SERVICE, PUBLISHER, SUBSCRIBER = "crm", "publisher", "subscriber"


def rules() -> Iterator[tuple[str, list[str]]]:
    """Yield the users with a password that the service and its neighbours use, and their rules."""
    for line in ACL.read_text().splitlines():
        if match := re.match(r"user (\w+) (on .*)", line):
            name, written = match.groups()
            if name in {SERVICE, PUBLISHER, SUBSCRIBER}:
                whole = re.sub(r"#<\w+>", f">{PASSWORD}", written)
                # A selector in brackets is one rule.
                yield name, re.findall(r"\([^)]*\)|\S+", whole)


def create(url: str) -> None:
    """Create the users, or set their rules again. ``url`` is that of somebody who may."""
    with Redis.from_url(url) as client:
        raw: Any = client
        for name, written in rules():
            raw.execute_command("ACL", "SETUSER", name, "reset", *written)


def config_lines() -> str:
    """Return the users as lines of a configuration file."""
    return "".join(f"user {name} {' '.join(written)}\n" for name, written in rules())


def url_of(user: str, url: str) -> str:
    """Return the URL with which this user connects to the same server."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"{user}:{PASSWORD}@{parts.hostname}:{parts.port}").geturl()
