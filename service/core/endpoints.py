"""Endpoints: the addresses of other systems to which events are sent by HTTP (webhooks)."""

import base64
import binascii
import secrets
from datetime import timedelta
from enum import StrEnum
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

_PREFIX = "whsec_"
_SECRET_BYTES = 32
_SECRET_SIZES = range(24, 65)
"""The sizes that Standard Webhooks allows."""
_MOST_URL = 2000
MOST_ENDPOINTS = 50
"""Each endpoint that is served takes memory and connections of a worker."""
GIVE_UP = timedelta(days=3)
"""An endpoint is paused if an event has failed for this long."""
OVERLAP = timedelta(hours=24)
"""How long the former secret signs beside a new one, unless a person says otherwise."""


class EventKind(StrEnum):
    """The kinds of events that an endpoint may get."""

    CHANGED = "customer-segment-changed"
    REMOVED = "customer-removed"


class BadUrlError(ValueError):
    """No endpoint may have this URL. The message goes on after "the URL"."""


class BadSecretError(ValueError):
    """An endpoint cannot have this secret. The message says what one looks like."""


class Target(NamedTuple):
    """Where the URL of an endpoint leads."""

    host: str
    port: int
    is_plain: bool
    """Whether it is plain HTTP, without TLS."""


def target_of(url: str, *, allow_private: bool) -> Target:
    """Check the URL of an endpoint and return where it leads. Raises BadUrlError.

    Plain HTTP is only for endpoints that are allowed to be in a private network.
    """
    if len(url) > _MOST_URL:
        msg = f"is longer than {_MOST_URL:,} characters"
        raise BadUrlError(msg)
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        msg = "must be in ASCII, without blanks and backslashes; encode other characters"
        raise BadUrlError(msg)
    parts, host, port = _split(url)
    if parts.scheme == "http" and not allow_private:
        msg = "must begin with https://; plain HTTP is only for private networks (--allow-private)"
        raise BadUrlError(msg)
    if parts.scheme not in {"http", "https"}:
        msg = "must begin with https://"
        raise BadUrlError(msg)
    if not host:
        msg = "names no host"
        raise BadUrlError(msg)
    if "@" in parts.netloc:
        msg = "must not have a user name or a password; the signature says who sends"
        raise BadUrlError(msg)
    if parts.fragment:
        msg = "must not have a part after #: it would never be sent"
        raise BadUrlError(msg)
    is_plain = parts.scheme == "http"
    return Target(host, port or (80 if is_plain else 443), is_plain)


def _split(url: str) -> tuple[SplitResult, str | None, int | None]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        msg = f"cannot be read: {error}"
        raise BadUrlError(msg) from None
    return parts, host, port


def make_secret() -> str:
    """Return a new secret, in the form of Standard Webhooks."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def checked_secret(text: str) -> str:
    """Return a secret that somebody gives. Raises BadSecretError, which does not repeat it."""
    secret = text.strip()
    try:
        size = len(base64.b64decode(secret.removeprefix(_PREFIX), validate=True))
    except binascii.Error:
        size = 0
    if not secret.startswith(_PREFIX) or size not in _SECRET_SIZES:
        msg = f"a secret is {_PREFIX} and, in Base64, 24 to 64 random bytes"
        raise BadSecretError(msg)
    return secret
