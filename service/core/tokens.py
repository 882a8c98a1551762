"""Secrets that prove who sends a request: API keys, and tokens in cookies.

Only their digests are stored.
"""

import base64
import hashlib
import hmac
import re
import secrets

_KEY = re.compile(r"crm_([a-z2-7]{8})_([A-Za-z0-9_-]{43})")


class ApiKey:
    """An API key ``crm_<id>_<secret>``. The id may be shown; the secret may not."""

    def __init__(self, key_id: str, secret: str) -> None:
        """Create a key from its two parts."""
        self.id = key_id
        self._secret = secret

    @classmethod
    def make(cls) -> "ApiKey":
        """Return a new key. Its secret has 256 random bits, so a fast hash is safe enough."""
        key_id = base64.b32encode(secrets.token_bytes(5)).decode().lower()
        return cls(key_id, secrets.token_urlsafe(32))

    @classmethod
    def parse(cls, text: str) -> "ApiKey | None":
        """Parse a key. None if the text does not look like one."""
        match = _KEY.fullmatch(text)
        return cls(match[1], match[2]) if match else None

    @property
    def digest(self) -> bytes:
        """SHA-256 of the secret."""
        return hashlib.sha256(self._secret.encode()).digest()

    def reveal(self) -> str:
        """Return the whole key as a client sends it.

        This is not ``str()``, because strings of objects end up in logs.
        """
        return f"crm_{self.id}_{self._secret}"


class CookieToken:
    """The token in a cookie, of a session or of a device."""

    def __init__(self, secret: str) -> None:
        """Create a token from a cookie's text. Any text is allowed: it may match nothing."""
        self._secret = secret

    @classmethod
    def make(cls) -> "CookieToken":
        """Return a new token of 256 random bits."""
        return cls(secrets.token_urlsafe(32))

    @property
    def digest(self) -> bytes:
        """SHA-256 of the token."""
        return hashlib.sha256(self._secret.encode()).digest()

    @property
    def csrf(self) -> str:
        """The value that the forms of a session with this token carry.

        Pages of other sites can neither read it nor compute it.
        """
        return hmac.digest(self._secret.encode(), b"csrf", "sha256").hex()

    def reveal(self) -> str:
        """Return the token as the cookie holds it. Not ``str()``, to keep it out of logs."""
        return self._secret
