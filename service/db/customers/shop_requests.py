"""What shops ask about people's data: erasures, which are done, and what a person has to do.

A request is recognised by its whole body, because nothing else of a webhook is signed. So whoever
has overheard one cannot have it done a second time. The caller commits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.hooks import ShopRequest
from service.core.identifiers import IdentifierKind, kind_of, source_and_id
from service.db.accounts.audit import note
from service.db.customers import editing, erasure
from service.db.customers.identity.claims import of_customer, owner_of


@dataclass(frozen=True)
class Asked:
    """A request as it arrived."""

    platform: str
    domain: str
    digest: bytes
    """The digest of the body."""
    actor: str


@dataclass(frozen=True)
class KeptRequest:
    """A request that waits for a person, or was done."""

    id: int
    platform: str
    domain: str
    kind: str
    """One of `ShopRequest`."""
    customer_id: int | None
    received_at: datetime
    done_at: datetime | None


class NoSuchRequestError(LookupError):
    """There is no open request with this number."""


_ADD = text("""
INSERT INTO shop_requests (platform, domain, kind, digest)
VALUES (:platform, :domain, :kind, :digest)
ON CONFLICT DO NOTHING RETURNING id
""")
_ABOUT = text("UPDATE shop_requests SET customer_id = :customer WHERE id = :id")
_DONE = text("""
UPDATE shop_requests SET done_at = now(), done_by = :actor
WHERE id = :id AND done_at IS NULL RETURNING kind
""")
_COLUMNS = "id, platform, domain, kind, customer_id, received_at, done_at"
_OPEN = text(f"""
SELECT {_COLUMNS} FROM shop_requests WHERE done_at IS NULL ORDER BY received_at, id LIMIT :most
""")
_ONE = text(f"SELECT {_COLUMNS} FROM shop_requests WHERE id = :id AND done_at IS NULL")
_ABOUT_CUSTOMERS = text(f"""
SELECT {_COLUMNS} FROM shop_requests WHERE customer_id = ANY(:numbers) ORDER BY received_at, id
""")
_OLDEST = text("""
SELECT coalesce(extract(epoch FROM clock_timestamp() - min(received_at)), 0)
FROM shop_requests WHERE done_at IS NULL
""")


async def ask(
    connection: AsyncConnection, asked: Asked, kind: ShopRequest, identifiers: Sequence[str] = ()
) -> None:
    """Keep a request until a person marks it as done.

    It is about the customer whom the first of the identifiers means that means anybody.
    """
    request_id = await _add(connection, asked, kind)
    if request_id is None:
        return
    for identifier in identifiers:
        if (owner := await owner_of(connection, identifier)) is not None:
            await connection.execute(_ABOUT, {"id": request_id, "customer": owner})
            return


async def erase_customer(
    connection: AsyncConnection, asked: Asked, identifiers: Sequence[str]
) -> int:
    """Erase the person whom identifiers mean, and return how many customers that were.

    Whoever has one of the e-mails and another number in the same shop is another person. Whoever
    has one of the phones is the person only if nothing else is known of them. None of these
    identifiers names anybody in an order that was placed before.
    """
    request_id = await _add(connection, asked, ShopRequest.ERASE_CUSTOMER)
    if request_id is None:
        return 0
    customers = {
        owner
        for identifier in identifiers
        if (owner := await owner_of(connection, identifier)) is not None
        and await _is_the_person(connection, owner, identifier, asked.domain, identifiers)
    }
    for customer_id in sorted(customers):
        await editing.delete(connection, asked.actor, customer_id)
    hashes = await erasure.remember(connection, identifiers)
    if hashes:
        await note(connection, asked.actor, "customer.erased", details={"erased": hashes})
        await erasure.count(connection, 0)
    await connection.execute(_DONE, {"id": request_id, "actor": asked.actor})
    return len(customers)


async def close(connection: AsyncConnection, request_id: int, actor: str) -> bool:
    """Note that a person has done what was asked. False if it was done before."""
    row = (await connection.execute(_DONE, {"id": request_id, "actor": actor})).one_or_none()
    if row is None:
        return False
    details = {"request": request_id, "kind": row.kind}
    await note(connection, actor, "shop-request.closed", details=details)
    return True


async def open_requests(connection: AsyncConnection, most: int) -> list[KeptRequest]:
    """Return the requests that wait for a person, the oldest first."""
    return [KeptRequest(*row) for row in await connection.execute(_OPEN, {"most": most})]


async def open_request(connection: AsyncConnection, request_id: int) -> KeptRequest:
    """Return a request that waits for a person. Raises NoSuchRequestError."""
    row = (await connection.execute(_ONE, {"id": request_id})).one_or_none()
    if row is None:
        raise NoSuchRequestError
    return KeptRequest(*row)


async def about(connection: AsyncConnection, numbers: Sequence[int]) -> list[KeptRequest]:
    """Return the requests about customers, the oldest first."""
    rows = await connection.execute(_ABOUT_CUSTOMERS, {"numbers": numbers})
    return [KeptRequest(*row) for row in rows]


async def oldest_seconds(connection: AsyncConnection) -> float:
    """Return how long the oldest of them has waited; 0 if none waits."""
    return float((await connection.execute(_OLDEST)).scalar_one())


async def _add(connection: AsyncConnection, asked: Asked, kind: ShopRequest) -> int | None:
    """Add a request and return its number. None if it came before."""
    parameters = {
        "platform": asked.platform,
        "domain": asked.domain,
        "kind": kind.value,
        "digest": asked.digest,
    }
    number: int | None = (await connection.execute(_ADD, parameters)).scalar_one_or_none()
    return number


async def _is_the_person(
    connection: AsyncConnection,
    customer_id: int,
    identifier: str,
    domain: str,
    identifiers: Sequence[str],
) -> bool:
    kind = kind_of(identifier)
    theirs = [row.identifier for row in await of_customer(connection, customer_id)]
    if kind is IdentifierKind.EMAIL:
        return not any(
            kind_of(each) is IdentifierKind.EXTERNAL
            and source_and_id(each)[0] == domain
            and each not in identifiers
            for each in theirs
        )
    if kind is IdentifierKind.PHONE:
        return all(kind_of(each) is IdentifierKind.PHONE for each in theirs)
    return True
