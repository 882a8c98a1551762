"""Sessions of those who signed in to the dashboard. The caller commits.

A session ends LASTS after the sign-in whatever happens, after IDLE without a use, when its user
signs out, is disabled or is given another password. What it allows is the user's role of now.
"""

from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.tokens import SessionToken
from service.db.accounts.audit import note
from service.db.accounts.users import User, find_user

LASTS = timedelta(hours=12)
"""A long working day: nobody is interrupted, and what leaks in the evening is worth nothing."""

IDLE = timedelta(hours=1)
"""Longer than a meeting, shorter than an unlocked desk should be trusted with customers' data."""

_START = text("""
INSERT INTO sessions (token_hash, user_id, expires_at)
VALUES (:digest, :user_id, now() + CAST(:lasts AS interval))
""")
# Two who sign in at once must not wait for each other, each for a row that the other has.
_FORGET = text("""
DELETE FROM sessions WHERE token_hash IN (
  SELECT token_hash FROM sessions
  WHERE expires_at <= now() OR last_seen_at <= now() - CAST(:idle AS interval)
  FOR UPDATE SKIP LOCKED
)
""")
_FIND = text("""
SELECT user_id FROM sessions
WHERE token_hash = :digest AND expires_at > now()
  AND last_seen_at > now() - CAST(:idle AS interval)
""")
_TOUCH = text("""
UPDATE sessions SET last_seen_at = now()
WHERE token_hash = :digest AND last_seen_at < now() - interval '1 minute'
""")
_END = text("""
DELETE FROM sessions USING users WHERE token_hash = :digest AND users.id = user_id
RETURNING user_id, email
""")


async def start(connection: AsyncConnection, user_id: int) -> SessionToken:
    """Begin a session; what is returned is the only copy of its secret. Drops those that ended."""
    token = SessionToken.make()
    await connection.execute(_FORGET, {"idle": IDLE})
    values = {"digest": token.digest, "user_id": user_id, "lasts": LASTS}
    await connection.execute(_START, values)
    return token


async def find(connection: AsyncConnection, token: SessionToken) -> User | None:
    """Give whose session it is; None when it has ended, by the database's clock."""
    values = {"digest": token.digest, "idle": IDLE}
    user_id = (await connection.execute(_FIND, values)).scalar_one_or_none()
    return await find_user(connection, user_id) if user_id is not None else None


async def touch(connection: AsyncConnection, token: SessionToken) -> None:
    """Keep that a session was used, to the minute."""
    await connection.execute(_TOUCH, {"digest": token.digest})


async def end(connection: AsyncConnection, token: SessionToken) -> None:
    """End a session, if it has not ended yet."""
    ended = (await connection.execute(_END, {"digest": token.digest})).one_or_none()
    if ended is not None:
        await note(connection, ended.email, "user.signed-out", details={"user": ended.user_id})
