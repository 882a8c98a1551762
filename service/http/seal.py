"""Encrypt texts that clients keep for the service and send back unread, and secrets of webhooks.

Addresses end up in the logs of proxies. So nobody may learn a name from a cursor that is part of
one.
"""

import base64
import binascii
import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy.ext.asyncio import AsyncEngine

from service.db import installation

_NONCE_BYTES = 12
FOR_HOOKS = "secret of a webhook"
"""The purpose for which the secrets of webhooks are sealed."""


class Seal:
    """Seals texts with one key. Only a holder of the same key can open or change them."""

    def __init__(self, key: bytes) -> None:
        """Create a seal with a key of 32 bytes."""
        self._cipher = AESGCM(key)

    def close(self, text: bytes, purpose: str) -> str:
        """Return the text, sealed. It can be opened for the same purpose only."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + self._cipher.encrypt(nonce, text, purpose.encode())
        return base64.urlsafe_b64encode(sealed).decode().rstrip("=")

    def open(self, sealed: str, purpose: str) -> bytes | None:
        """Return the text. None if it was not sealed with this key and for this purpose."""
        try:
            both = base64.b64decode(
                sealed + "=" * (-len(sealed) % 4), altchars=b"-_", validate=True
            )
            return self._cipher.decrypt(both[:_NONCE_BYTES], both[_NONCE_BYTES:], purpose.encode())
        except (binascii.Error, ValueError, InvalidTag):
            return None


def installation_seal(secret: bytes) -> Seal:
    """Return the seal of the installation that has this secret."""
    return Seal(hmac.digest(secret, b"seal of the web process", "sha256"))


class InstallationSeal:
    """The seal of an installation. Its key comes from the database, so all processes share it."""

    def __init__(self, engine: AsyncEngine) -> None:
        """Create it without the key, which the first `get` reads."""
        self._engine = engine
        self._seal: Seal | None = None

    async def get(self) -> Seal:
        """Return the seal. Raises what DATABASE_AWAY lists if the key could not be read."""
        if self._seal is None:
            async with self._engine.connect() as connection:
                secret = await installation.secret(connection)
            self._seal = installation_seal(secret)
        return self._seal
