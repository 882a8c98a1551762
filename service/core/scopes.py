"""Who may do what: scopes, roles, API keys, and the actor on whose behalf something is done."""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple


class Scope(StrEnum):
    """What a credential allows. Each is given by itself; admin does not imply the others."""

    READ = "read"
    WRITE = "write"
    EXPORT = "export"
    ADMIN = "admin"


class Role(StrEnum):
    """What a user of the dashboard is."""

    VIEWER = "viewer"
    EDITOR = "editor"
    ADMIN = "admin"


ROLE_SCOPES: Mapping[Role, frozenset[Scope]] = {
    Role.VIEWER: frozenset({Scope.READ}),
    Role.EDITOR: frozenset({Scope.READ, Scope.WRITE, Scope.EXPORT}),
    Role.ADMIN: frozenset(Scope),
}


class Actor(NamedTuple):
    """Whose name stands in the audit, and what they may do.

    ``ref`` is what log lines call them, for a name there would be one too many.
    """

    name: str
    scopes: frozenset[Scope]
    ref: str = "local"


LOCAL = Actor("local", frozenset(Scope))
"""Whoever is on this machine, while no credential has been created."""

_KEY = re.compile(r"crm_([a-z2-7]{8})_([A-Za-z0-9_-]{43})")


class ApiKey:
    """``crm_<id>_<secret>``: the id is no secret, of the secret only the digest is stored."""

    def __init__(self, key_id: str, secret: str) -> None:
        """Put it together from its parts."""
        self.id = key_id
        self._secret = secret

    @classmethod
    def make(cls) -> "ApiKey":
        """Make a new one; its secret has 256 random bits, so a fast hash is enough."""
        key_id = base64.b32encode(secrets.token_bytes(5)).decode().lower()
        return cls(key_id, secrets.token_urlsafe(32))

    @classmethod
    def parse(cls, text: str) -> "ApiKey | None":
        """Read one; None when it has not that form."""
        match = _KEY.fullmatch(text)
        return cls(match[1], match[2]) if match else None

    @property
    def digest(self) -> bytes:
        """SHA-256 of the secret."""
        return hashlib.sha256(self._secret.encode()).digest()

    def reveal(self) -> str:
        """Write it as whoever uses it must send it. Not ``str()``: that finds its way into logs."""
        return f"crm_{self.id}_{self._secret}"


class SessionToken:
    """What the browser of somebody who signed in holds; only its digest is stored."""

    def __init__(self, secret: str) -> None:
        """Take one as a cookie has it; any text may be tried."""
        self._secret = secret

    @classmethod
    def make(cls) -> "SessionToken":
        """Make a new one, of 256 random bits."""
        return cls(secrets.token_urlsafe(32))

    @property
    def digest(self) -> bytes:
        """SHA-256 of it."""
        return hashlib.sha256(self._secret.encode()).digest()

    @property
    def csrf(self) -> str:
        """What forms of this session carry: pages of others can neither read nor compute it."""
        return hmac.digest(self._secret.encode(), b"csrf", "sha256").hex()

    def reveal(self) -> str:
        """Write it as the cookie has it. Not ``str()``: that finds its way into logs."""
        return self._secret
