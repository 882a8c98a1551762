"""Remembers for a few seconds what the database says about API keys and sessions.

So most requests need no query for this. The price is a delay of up to REMEMBERED seconds until a
process notices that a key was revoked or has expired, that a session ended, or that the first
credential was created.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from cachetools import TTLCache
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from service.core.tokens import CookieToken
from service.db.accounts import api_keys, devices, sessions
from service.db.accounts.access import Access, access
from service.db.accounts.api_keys import StoredKey
from service.db.accounts.users import User
from service.db.engine import DATABASE_AWAY
from service.http.rate_limits import Clock

T = TypeVar("T")

REMEMBERED = 3.0
"""Seconds for which an answer of the database is used again."""

_MOST_REMEMBERED = 10_000
_SECONDS_BETWEEN_NOTES = 60.0


class CredentialCache:
    """Caches what the database says about credentials, and records when each was last used.

    Every method that may ask the database raises what DATABASE_AWAY lists.
    """

    def __init__(self, engine: AsyncEngine, clock: Clock) -> None:
        """Start empty. ``clock`` returns seconds that never go back."""
        self._access: Access | None = None
        self._engine = engine
        self._clock = clock
        self._looked_at = float("-inf")
        self._keys: TTLCache[str, StoredKey | None] = TTLCache(_MOST_REMEMBERED, REMEMBERED, clock)
        self._users: TTLCache[bytes, User | None] = TTLCache(_MOST_REMEMBERED, REMEMBERED, clock)
        self._devices: TTLCache[bytes, frozenset[str]] = TTLCache(
            _MOST_REMEMBERED, REMEMBERED, clock
        )
        self._noted: TTLCache[str | bytes, bool] = TTLCache(
            _MOST_REMEMBERED, _SECONDS_BETWEEN_NOTES, clock
        )
        self._writes: set[asyncio.Task[None]] = set()

    @property
    def local_mode(self) -> bool:
        """Whether no credential had ever been made, at the last look. False before the first."""
        return self._access is not None and not self._access.required

    async def access(self) -> Access:
        """Return whether everybody has to sign in, and whether anybody can."""
        now = self._clock()
        if self._access is None or now - self._looked_at > REMEMBERED:
            async with self._engine.connect() as connection:
                self._access = await access(connection)
            self._looked_at = now
        return self._access

    async def find_key(self, key_id: str) -> StoredKey | None:
        """Return the API key with this id, or None if there is none."""
        with suppress(KeyError):
            return self._keys[key_id]
        async with self._engine.connect() as connection:
            key = await api_keys.find_key(connection, key_id)
        self._keys[key_id] = key
        return key

    async def find_user(self, token: CookieToken) -> User | None:
        """Return the user whose session this is, or None if there is no such session any more."""
        digest = token.digest
        with suppress(KeyError):
            return self._users[digest]
        async with self._engine.connect() as connection:
            user = await sessions.find(connection, token)
        self._users[digest] = user
        return user

    async def find_device(self, token: CookieToken) -> frozenset[str]:
        """Return the e-mail keys of the users who have signed in from the browser of this token."""
        digest = token.digest
        with suppress(KeyError):
            return self._devices[digest]
        async with self._engine.connect() as connection:
            users = await devices.find(connection, token)
        self._devices[digest] = users
        return users

    async def end_session(self, token: CookieToken) -> None:
        """End a session: at once in this process, within REMEMBERED seconds in the others."""
        async with self._engine.begin() as connection:
            await sessions.end(connection, token)
        self._users.pop(token.digest, None)

    def note_key_use(self, key_id: str) -> None:
        """Record that the key is used, at most once a minute."""
        self._note(key_id, api_keys.touch_key, key_id)

    def note_session_use(self, token: CookieToken) -> None:
        """Record that the session is used, at most once a minute. This keeps it alive."""
        self._note(token.digest, sessions.touch, token)

    async def close(self) -> None:
        """Wait until every note is written."""
        await asyncio.gather(*self._writes)

    def _note(
        self,
        credential: str | bytes,
        write: Callable[[AsyncConnection, T], Awaitable[None]],
        argument: T,
    ) -> None:
        """Write at most once a minute, in a separate task, so that no request waits for it."""
        if credential in self._noted:
            return
        self._noted[credential] = True
        task = asyncio.create_task(self._write(write, argument))
        self._writes.add(task)  # the event loop keeps only a weak reference
        task.add_done_callback(self._writes.discard)

    async def _write(
        self, write: Callable[[AsyncConnection, T], Awaitable[None]], argument: T
    ) -> None:
        # A failed note must not fail a request. The next use after a minute writes again.
        with suppress(*DATABASE_AWAY):
            async with self._engine.begin() as connection:
                await write(connection, argument)
