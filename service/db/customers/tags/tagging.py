"""Give tags to a customer, and take them away. The caller commits.

Tags stand beside customers, so none of this locks a customer: orders go on coming in. Whoever
writes tags shares a lock that merges and erasures hold alone, so no tag is left with somebody who
is gone.
"""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.tags import MOST_TAGS, tag_key, tag_name
from service.db.accounts.audit import note
from service.db.columns import pack, unpack
from service.db.locks import AdvisoryLock, share_lock, wait_for_lock


class NoSuchCustomerError(Exception):
    """There is no such customer."""


class TooManyTagsError(Exception):
    """The customer would have more tags than one may have."""


TAGS_OF_CUSTOMER = """ARRAY(SELECT t.name FROM customer_tags ct JOIN tags t ON t.id = ct.tag_id
  WHERE ct.customer_id = c.id ORDER BY t.folded)"""
"""SQL for the names of the tags of ``customers c``."""

# Two people who use a new name at once both get the one row that there is.
_CREATE = text(f"""
INSERT INTO tags (name, folded)
SELECT name, folded FROM ({unpack({"name": "text", "folded": "text"})}) n
ORDER BY folded COLLATE "C" ON CONFLICT (folded) DO NOTHING
""")
_FIND = text("SELECT id, name, folded FROM tags WHERE folded = ANY(:folded)")
_GIVE = text("""
INSERT INTO customer_tags (customer_id, tag_id)
SELECT c.id, t.id FROM customers c CROSS JOIN tags t WHERE c.id = :customer AND t.id = ANY(:tags)
ON CONFLICT DO NOTHING RETURNING tag_id
""")
_TAKE = text("""
DELETE FROM customer_tags WHERE customer_id = :customer AND tag_id IN (
  SELECT id FROM tags WHERE folded = ANY(:folded)) RETURNING tag_id
""")
_EXISTS = text("SELECT EXISTS (SELECT FROM customers WHERE id = :customer)")
_NAMES = text("SELECT name FROM tags WHERE id = ANY(:ids) ORDER BY folded")
_NUMBER = text("SELECT count(*) FROM customer_tags WHERE customer_id = :customer")
_MERGE = (
    text("""
INSERT INTO customer_tags (customer_id, tag_id, given_at, bulk_id)
SELECT :low, tag_id, given_at, bulk_id FROM customer_tags WHERE customer_id = :high
ON CONFLICT DO NOTHING
"""),
    text("DELETE FROM customer_tags WHERE customer_id = :high"),
    text("""
INSERT INTO bulk_changed (bulk_id, customer_id, given_by_bulk)
SELECT bulk_id, :low, given_by_bulk FROM bulk_changed WHERE customer_id = :high
ON CONFLICT DO NOTHING
"""),
    text("DELETE FROM bulk_changed WHERE customer_id = :high"),
)
_FORGET = (
    text("DELETE FROM customer_tags WHERE customer_id = :id"),
    text("DELETE FROM bulk_changed WHERE customer_id = :id"),
)


async def find_or_create(connection: AsyncConnection, names: Sequence[str]) -> dict[str, int]:
    """Return the ids of tags by what their names are compared by; creates those that are new.

    Raises ValueError for a text that is no name.
    """
    by_key = {tag_key(name): name for name in map(tag_name, names)}
    columns = {"name": list(by_key.values()), "folded": list(by_key)}
    if by_key:
        await connection.execute(_CREATE, pack(columns))
    rows = await connection.execute(_FIND, {"folded": list(by_key)})
    return {row.folded: row.id for row in rows}


async def change_tags(
    connection: AsyncConnection,
    customer_id: int,
    actor: str,
    *,
    add: Sequence[str] = (),
    remove: Sequence[str] = (),
) -> bool:
    """Give tags to a customer and take others away; return whether that changed anything.

    Names that are new become tags. Raises NoSuchCustomerError, TooManyTagsError, and ValueError for
    a text that is no name.
    """
    await share_lock(connection, AdvisoryLock.TAGS)
    ids = await find_or_create(connection, add)
    customer = {"customer": customer_id}
    if not (await connection.execute(_EXISTS, customer)).scalar_one():
        raise NoSuchCustomerError
    folded = [key for key in map(tag_key, remove) if key not in ids]
    taken = (await connection.execute(_TAKE, customer | {"folded": folded})).scalars().all()
    given = (await connection.execute(_GIVE, customer | {"tags": list(ids.values())})).scalars()
    details = {"added": await _names(connection, given.all())}
    details["removed"] = await _names(connection, taken)
    if (await connection.execute(_NUMBER, customer)).scalar_one() > MOST_TAGS:
        raise TooManyTagsError
    changed = {what: names for what, names in details.items() if names}
    if changed:
        await note(connection, actor, "customer.tagged", customer_id=customer_id, details=changed)
    return bool(changed)


async def join_tags(connection: AsyncConnection, low: int, high: int) -> None:
    """Give the tags of a customer who goes to the one who stays."""
    await wait_for_lock(connection, AdvisoryLock.TAGS)
    for statement in _MERGE:
        await connection.execute(statement, {"low": low, "high": high})


async def forget_tags(connection: AsyncConnection, customer_id: int) -> None:
    """Remove all tags of a customer who goes, and what bulk changes knew of them."""
    await wait_for_lock(connection, AdvisoryLock.TAGS)
    for statement in _FORGET:
        await connection.execute(statement, {"id": customer_id})


async def _names(connection: AsyncConnection, ids: Sequence[int]) -> list[str]:
    if not ids:
        return []
    return list((await connection.execute(_NAMES, {"ids": list(ids)})).scalars())
