"""Sessions of users who signed in to the dashboard. The caller commits.

A session ends LASTS after the sign-in, or after IDLE without a request, or when its user signs out,
is disabled or gets another password. It allows what the user's current role allows.
"""

from datetime import timedelta
from enum import StrEnum

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.tokens import CookieToken
from service.db.accounts.audit import note
from service.db.accounts.users import User, find_user

LASTS = timedelta(hours=12)
"""A long working day: nobody is interrupted, and a token that leaks is useless the next day."""

IDLE = timedelta(hours=1)
"""Longer than a meeting, but short enough that an unlocked desk does not expose customers."""

EXPLAINED = timedelta(days=1)
"""For so long after its end a session is kept, so that the sign-in page can say why it ended."""


class Ending(StrEnum):
    """Why a session ended."""

    IDLE = "idle"
    AGE = "age"
    OTHER = "other"
    """Signed out, another password, disabled. Or it ended long ago, or never existed."""


_START = text("""
INSERT INTO sessions (token_hash, user_id, expires_at)
VALUES (:digest, :user_id, now() + CAST(:lasts AS interval))
""")
# Without SKIP LOCKED, two sign-ins at once could deadlock over the rows they delete.
_FORGET = text("""
DELETE FROM sessions WHERE token_hash IN (
  SELECT token_hash FROM sessions
  WHERE least(expires_at, last_seen_at + CAST(:idle AS interval))
    <= now() - CAST(:explained AS interval)
  FOR UPDATE SKIP LOCKED
)
""")
_FIND = text("""
SELECT user_id FROM sessions
WHERE token_hash = :digest AND expires_at > now()
  AND last_seen_at > now() - CAST(:idle AS interval)
""")
_ENDING = text("""
SELECT CASE WHEN expires_at < last_seen_at + CAST(:idle AS interval) THEN 'age' ELSE 'idle' END
FROM sessions WHERE token_hash = :digest
""")
_TOUCH = text("""
UPDATE sessions SET last_seen_at = now()
WHERE token_hash = :digest AND last_seen_at < now() - interval '1 minute'
""")
_END = text("""
DELETE FROM sessions USING users WHERE token_hash = :digest AND users.id = user_id
RETURNING user_id, email
""")


async def start(connection: AsyncConnection, user_id: int) -> CookieToken:
    """Start a session and delete old ones. The returned token is the only copy of its secret."""
    token = CookieToken.make()
    await connection.execute(_FORGET, {"idle": IDLE, "explained": EXPLAINED})
    values = {"digest": token.digest, "user_id": user_id, "lasts": LASTS}
    await connection.execute(_START, values)
    return token


async def find(connection: AsyncConnection, token: CookieToken) -> User | None:
    """Return the user of a session. None if it has ended by the database's clock."""
    values = {"digest": token.digest, "idle": IDLE}
    user_id = (await connection.execute(_FIND, values)).scalar_one_or_none()
    return await find_user(connection, user_id) if user_id is not None else None


async def why_ended(connection: AsyncConnection, token: CookieToken) -> Ending:
    """Return why the session of a token ended. Ask only after `find` has returned None."""
    values = {"digest": token.digest, "idle": IDLE}
    return Ending((await connection.execute(_ENDING, values)).scalar_one_or_none() or "other")


async def touch(connection: AsyncConnection, token: CookieToken) -> None:
    """Record that a session was used. Written at most once a minute, to save updates."""
    await connection.execute(_TOUCH, {"digest": token.digest})


async def end(connection: AsyncConnection, token: CookieToken) -> None:
    """End a session if it has not ended yet."""
    ended = (await connection.execute(_END, {"digest": token.digest})).one_or_none()
    if ended is not None:
        await note(connection, ended.email, "user.signed-out", details={"user": ended.user_id})
