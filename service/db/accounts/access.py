"""Whether everybody has to sign in, and whether anybody can."""

from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection


class Access(NamedTuple):
    """Who can get in."""

    required: bool
    """False only if no key and no user was ever made. Nothing makes it false again."""
    by_password: bool
    """There is a user who is not disabled."""
    by_key: bool
    """There is a key that is neither revoked nor expired."""

    @property
    def possible(self) -> bool:
        """False if everybody needs a credential, and nobody has one that is valid."""
        return self.by_password or self.by_key or not self.required


# Triggers set `sign_in_since`, but a restore can load rows without running triggers. A row that is
# there counts as well, and so does a row of `installation` that is not there.
_ACCESS = text("""
SELECT coalesce((SELECT sign_in_since IS NOT NULL FROM installation), true)
    OR EXISTS (SELECT FROM users) OR EXISTS (SELECT FROM api_keys) AS required,
  EXISTS (SELECT FROM users WHERE disabled_at IS NULL) AS by_password,
  EXISTS (
    SELECT FROM api_keys WHERE revoked_at IS NULL AND coalesce(expires_at > now(), true)
  ) AS by_key
""")


async def access(connection: AsyncConnection) -> Access:
    """Return who can get in, by the database's clock."""
    return Access(*(await connection.execute(_ACCESS)).one())
