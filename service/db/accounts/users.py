"""The dashboard's users. The caller commits."""

from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Row, TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.scopes import ROLE_SCOPES, Actor, Role
from service.db.accounts import devices
from service.db.accounts.audit import note
from service.db.accounts.passwords import hash_new_password, matches, outdated, rehash


class User(NamedTuple):
    """A user, perhaps a disabled one."""

    id: int
    email: str
    role: Role
    date_created: datetime
    last_sign_in_at: datetime | None
    disabled_at: datetime | None

    @property
    def actor(self) -> Actor:
        """The actor for what this user does while signed in."""
        return Actor(self.email, ROLE_SCOPES[self.role], f"user:{self.id}")


class UserExistsError(ValueError):
    """A user with this e-mail exists already."""


_COLUMNS = "id, email, role, date_created, last_sign_in_at, disabled_at"
_ADD = text(f"""
INSERT INTO users (email, email_key, password_hash, role)
VALUES (:email, :email_key, :password_hash, :role)
ON CONFLICT (email_key) DO NOTHING RETURNING {_COLUMNS}
""")
_LIST = text(f"SELECT {_COLUMNS} FROM users ORDER BY email_key")
_FIND = text(f"SELECT {_COLUMNS} FROM users WHERE id = :id AND disabled_at IS NULL")
_BY_EMAIL = text(f"""
SELECT {_COLUMNS}, password_hash FROM users WHERE email_key = :email_key AND disabled_at IS NULL
""")
_CHANGE = "UPDATE users SET {} WHERE email_key = :email_key RETURNING id"
_SET_ROLE = text(_CHANGE.format("role = :role"))
_SET_PASSWORD = text(_CHANGE.format("password_hash = :password_hash, disabled_at = NULL"))
_DISABLE = text(_CHANGE.format("disabled_at = coalesce(disabled_at, now())"))
_SIGNED_IN = text("""
UPDATE users SET last_sign_in_at = now(), password_hash = :fresh
WHERE id = :id AND password_hash = :verified AND disabled_at IS NULL
""")
_END_SESSIONS = text("DELETE FROM sessions WHERE user_id = :id")


def email_key(email: str) -> str:
    """Return the form in which users' e-mails are compared."""
    return email.strip().lower()


async def add_user(
    connection: AsyncConnection, email: str, password: str, role: Role, *, actor: str
) -> User:
    """Add a user. Raises UserExistsError, PasswordError."""
    values = {
        "email": email.strip(),
        "email_key": email_key(email),
        "password_hash": await hash_new_password(password, email),
        "role": role,
    }
    row = (await connection.execute(_ADD, values)).one_or_none()
    if row is None:
        raise UserExistsError
    await note(connection, actor, "user.added", details={"user": row.id, "role": role})
    return _user(row)


async def list_users(connection: AsyncConnection) -> list[User]:
    """Return all users, disabled ones included."""
    return [_user(row) for row in await connection.execute(_LIST)]


async def find_user(connection: AsyncConnection, user_id: int) -> User | None:
    """Return a user. None if there is no such user, or if they are disabled."""
    row = (await connection.execute(_FIND, {"id": user_id})).one_or_none()
    return _user(row) if row else None


async def set_role(connection: AsyncConnection, email: str, role: Role, *, actor: str) -> bool:
    """Change the role of a user. False if there is no such user."""
    values = {"email_key": email_key(email), "role": role}
    return await _change(connection, _SET_ROLE, values, actor, "user.role-set")


async def set_password(
    connection: AsyncConnection, email: str, password: str, *, actor: str
) -> bool:
    """Set a user's password, enable the user, end their sessions and forget their browsers.

    False if there is no such user. Raises PasswordError.
    """
    password_hash = await hash_new_password(password, email)
    values = {"email_key": email_key(email), "password_hash": password_hash}
    return await _change(connection, _SET_PASSWORD, values, actor, "user.password-set")


async def disable_user(connection: AsyncConnection, email: str, *, actor: str) -> bool:
    """Disable a user, end their sessions and forget their browsers.

    False if there is no such user.
    """
    values = {"email_key": email_key(email)}
    return await _change(connection, _DISABLE, values, actor, "user.disabled")


async def verify_password(
    connection: AsyncConnection, email: str, password: str, *, network: str | None = None
) -> User | None:
    """Return the user if the password is right, else None. The audit log records both outcomes.

    It also records the network that the attempt came from, if that is known.

    The user's row stays locked until the caller commits. So a transaction that changes the password
    or disables the user at the same time also ends the session that the caller starts now.

    An unknown or disabled user takes as long to refuse as a wrong password. Argon2 is slow on
    purpose, so callers must limit failed attempts first, or anybody could keep it busy.
    """
    source = {"network": network} if network else {}
    row = (await connection.execute(_BY_EMAIL, {"email_key": email_key(email)})).one_or_none()
    if await matches(password, row.password_hash if row else None) and row is not None:
        verified = fresh = row.password_hash
        if outdated(verified):
            fresh = await rehash(password)
        values = {"id": row.id, "verified": verified, "fresh": fresh}
        if (await connection.execute(_SIGNED_IN, values)).rowcount == 1:
            await note(connection, row.email, "user.signed-in", details={"user": row.id} | source)
            return _user(row)
    details = {"user": row.id} if row else {}  # no e-mail: people type passwords there, too
    await note(connection, "nobody", "user.sign-in-failed", details=details | source)
    return None


async def _change(
    connection: AsyncConnection,
    statement: TextClause,
    values: dict[str, str],
    actor: str,
    action: str,
) -> bool:
    user_id = (await connection.execute(statement, values)).scalar_one_or_none()
    if user_id is not None:
        if statement is not _SET_ROLE:
            await connection.execute(_END_SESSIONS, {"id": user_id})
            await devices.forget_all(connection, user_id)
        details = {"user": user_id} | {k: v for k, v in values.items() if k == "role"}
        await note(connection, actor, action, details=details)
    return user_id is not None


def _user(row: Row[Any]) -> User:
    return User(
        row.id, row.email, Role(row.role), row.date_created, row.last_sign_in_at, row.disabled_at
    )
