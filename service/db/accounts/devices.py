"""Browsers from which users have signed in before. The caller commits.

Such a browser has a cookie with a token. Strangers who try a user's password cannot keep that user
out of it: see `service.http.sign_in_limits`. The token opens nothing by itself.
"""

from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.tokens import CookieToken

LASTS = timedelta(days=180)
"""A browser is forgotten when its user has not signed in for so long."""

MOST = 20
"""Browsers remembered for one user: a program that signs in every hour makes one each time."""

_FIND = text("""
SELECT email_key FROM devices JOIN users ON users.id = user_id
WHERE token_hash = :digest AND signed_in_at > now() - CAST(:lasts AS interval)
  AND disabled_at IS NULL
""")
_RENEW = text("UPDATE devices SET token_hash = :digest WHERE token_hash = :old")
_REMEMBER = text("""
INSERT INTO devices (token_hash, user_id) VALUES (:digest, :user_id)
ON CONFLICT (token_hash, user_id) DO UPDATE SET signed_in_at = now()
""")
_FORGET_OLD = text("""
DELETE FROM devices WHERE user_id = :user_id AND (
  signed_in_at <= now() - CAST(:lasts AS interval)
  OR token_hash NOT IN (
    SELECT token_hash FROM devices WHERE user_id = :user_id
    ORDER BY signed_in_at DESC, token_hash LIMIT :most
  )
)
""")
_FORGET = text("DELETE FROM devices WHERE user_id = :user_id")


async def find(connection: AsyncConnection, token: CookieToken) -> frozenset[str]:
    """Return the e-mail keys of the users who have signed in from this browser."""
    values = {"digest": token.digest, "lasts": LASTS}
    return frozenset((await connection.execute(_FIND, values)).scalars())


async def remember(
    connection: AsyncConnection, old: CookieToken | None, user_id: int
) -> CookieToken:
    """Record that a user signed in from a browser; return the browser's new token.

    The token changes at each sign-in, also for the other users of the browser. So somebody who has
    put a cookie of their own into the browser does not share the new one.
    """
    token = CookieToken.make()
    values = {"digest": token.digest, "user_id": user_id}
    if old is not None:
        await connection.execute(_RENEW, {"digest": token.digest, "old": old.digest})
    await connection.execute(_REMEMBER, values)
    await connection.execute(_FORGET_OLD, {"user_id": user_id, "lasts": LASTS, "most": MOST})
    return token


async def forget_all(connection: AsyncConnection, user_id: int) -> None:
    """Forget the browsers of a user."""
    await connection.execute(_FORGET, {"user_id": user_id})
