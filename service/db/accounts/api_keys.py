"""Create, find, list and revoke API keys. The caller commits."""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.scopes import Scope
from service.core.tokens import ApiKey
from service.db.accounts.audit import note


class StoredKey(NamedTuple):
    """The fields that are needed to check the key of a request."""

    id: str
    name: str
    secret_hash: bytes
    scopes: frozenset[Scope]
    valid: bool


class ListedKey(NamedTuple):
    """The fields of a key that people may see: all but the hash of its secret."""

    id: str
    name: str
    scopes: list[str]
    date_created: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None
    valid: bool


_VALID = "revoked_at IS NULL AND coalesce(expires_at > now(), true) AS valid"
_CREATE = text("""
INSERT INTO api_keys (id, name, secret_hash, scopes, expires_at)
VALUES (:id, :name, :secret_hash, :scopes, :expires_at)
""")
_FIND = text(f"SELECT id, name, secret_hash, scopes, {_VALID} FROM api_keys WHERE id = :id")
_LIST = text(f"""
SELECT id, name, scopes, date_created, expires_at, last_used_at, revoked_at, {_VALID}
FROM api_keys ORDER BY date_created, id
""")
_TOUCH = text("""
UPDATE api_keys SET last_used_at = now()
WHERE id = :id AND coalesce(last_used_at < now() - interval '1 minute', true)
""")
_REVOKE = text("UPDATE api_keys SET revoked_at = now() WHERE id = :id AND revoked_at IS NULL")


async def create_key(
    connection: AsyncConnection,
    name: str,
    scopes: Iterable[Scope],
    *,
    expires_at: datetime | None = None,
    actor: str,
) -> ApiKey:
    """Create a key. The returned value is the only copy of its secret."""
    key = ApiKey.make()
    allowed = sorted(set(scopes))
    await connection.execute(
        _CREATE,
        {
            "id": key.id,
            "name": name,
            "secret_hash": key.digest,
            "scopes": allowed,
            "expires_at": expires_at,
        },
    )
    details = {"key": key.id, "name": name, "scopes": allowed, "expiresAt": expires_at}
    await note(connection, actor, "key.created", details=details)
    return key


async def find_key(connection: AsyncConnection, key_id: str) -> StoredKey | None:
    """Return a key, also if it is revoked or expired by the database's clock. None if unknown."""
    row = (await connection.execute(_FIND, {"id": key_id})).one_or_none()
    if row is None:
        return None
    scopes = frozenset(map(Scope, row.scopes))
    return StoredKey(row.id, row.name, row.secret_hash, scopes, row.valid)


async def list_keys(connection: AsyncConnection) -> list[ListedKey]:
    """Return all keys, the oldest first."""
    return [ListedKey(*row) for row in await connection.execute(_LIST)]


async def touch_key(connection: AsyncConnection, key_id: str) -> None:
    """Record that a key was used. Written at most once a minute, to save updates."""
    await connection.execute(_TOUCH, {"id": key_id})


async def revoke_key(connection: AsyncConnection, key_id: str, *, actor: str) -> bool:
    """Revoke a key for ever. False if there is no key with this id that is not revoked yet."""
    revoked = (await connection.execute(_REVOKE, {"id": key_id})).rowcount == 1
    if revoked:
        await note(connection, actor, "key.revoked", details={"key": key_id})
    return revoked
