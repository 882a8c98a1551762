"""The tags that there are: list, rename, merge and delete them. The caller commits."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.tags import tag_key, tag_name
from service.db.accounts.audit import note
from service.db.customers.views.saved import rename_tag
from service.db.locks import AdvisoryLock, wait_for_lock


class TagNotFoundError(Exception):
    """There is no such tag."""


class TagTakenError(Exception):
    """Another tag has this name; ``args[0]`` is its id. The two can be merged."""


class Tag(NamedTuple):
    """A tag, and how many customers have it."""

    id: int
    name: str
    customers: int
    date_created: datetime


_LIST = text("""
SELECT t.id, t.name, (SELECT count(*) FROM customer_tags ct WHERE ct.tag_id = t.id) AS customers,
  t.date_created
FROM tags t WHERE strpos(t.folded, :part) > 0 ORDER BY t.folded LIMIT :most
""")
_ONE = text("""
SELECT t.id, t.name, (SELECT count(*) FROM customer_tags ct WHERE ct.tag_id = t.id) AS customers,
  t.date_created
FROM tags t WHERE t.id = :id
""")
_COUNT = text("SELECT count(*) FROM tags WHERE strpos(folded, :part) > 0")
_LOCK_TAGS = text("SELECT id, name FROM tags WHERE id = ANY(:ids) ORDER BY id FOR UPDATE")
_OWNER = text("SELECT id FROM tags WHERE folded = :folded")
_RENAME = text("UPDATE tags SET name = :name, folded = :folded WHERE id = :id")
_JOIN = text("""
INSERT INTO customer_tags (customer_id, tag_id, given_at, bulk_id)
SELECT customer_id, :into, given_at, NULL FROM customer_tags WHERE tag_id = :id
ON CONFLICT DO NOTHING
""")
_EMPTY = text("DELETE FROM customer_tags WHERE tag_id = :id")
_DELETE = text("DELETE FROM tags WHERE id = :id")

MOST_LISTED = 500
MOST_SUGGESTED = 100
"""Suggestions in a form: more would make its page too large."""


async def list_tags(
    connection: AsyncConnection, part: str = "", most: int = MOST_LISTED
) -> tuple[Sequence[Tag], int]:
    """Return the tags whose name has ``part``, by name, and how many there are of them."""
    folded = tag_key(part)
    rows = await connection.execute(_LIST, {"part": folded, "most": most})
    total = int((await connection.execute(_COUNT, {"part": folded})).scalar_one())
    return [Tag(*row) for row in rows], total


async def read_tag(connection: AsyncConnection, tag_id: int) -> Tag:
    """Return a tag. Raises TagNotFoundError."""
    row = (await connection.execute(_ONE, {"id": tag_id})).one_or_none()
    if row is None:
        raise TagNotFoundError
    return Tag(*row)


async def find(connection: AsyncConnection, name: str) -> int | None:
    """Return the id of the tag of this name; None if there is none."""
    found = await connection.execute(_OWNER, {"folded": tag_key(name)})
    number: int | None = found.scalar_one_or_none()
    return number


async def rename(connection: AsyncConnection, tag_id: int, written: str, actor: str) -> None:
    """Give a tag another name.

    Raises TagNotFoundError, TagTakenError, and ValueError for a text that is no name.
    """
    name = tag_name(written)
    old = (await _locked(connection, tag_id))[tag_id]
    owner = await find(connection, name)
    if owner not in {None, tag_id}:
        raise TagTakenError(owner)
    await connection.execute(_RENAME, {"id": tag_id, "name": name, "folded": tag_key(name)})
    if name != old:
        await rename_tag(connection, old, name)
        await note(connection, actor, "tag.renamed", details={"name": [old, name]})


async def merge(connection: AsyncConnection, tag_id: int, into: int, actor: str) -> None:
    """Give all customers of one tag another one instead, and delete it.

    Raises TagNotFoundError, and ValueError if both are the same tag.
    """
    if tag_id == into:
        msg = "must be another tag"
        raise ValueError(msg)
    await wait_for_lock(connection, AdvisoryLock.TAGS)
    names = await _locked(connection, tag_id, into)
    await connection.execute(_JOIN, {"id": tag_id, "into": into})
    await rename_tag(connection, names[tag_id], names[into])
    await _remove(connection, tag_id)
    details = {"tag": names[tag_id], "into": names[into]}
    await note(connection, actor, "tag.merged", details=details)


async def delete(connection: AsyncConnection, tag_id: int, actor: str) -> int:
    """Take a tag from all customers and delete it; return how many had it.

    Raises TagNotFoundError.
    """
    await wait_for_lock(connection, AdvisoryLock.TAGS)
    names = await _locked(connection, tag_id)
    had = await _remove(connection, tag_id)
    details = {"tag": names[tag_id], "customers": had}
    await note(connection, actor, "tag.deleted", details=details)
    return had


async def _locked(connection: AsyncConnection, *tag_ids: int) -> dict[int, str]:
    """Lock tags, and return their names. Raises TagNotFoundError."""
    rows = await connection.execute(_LOCK_TAGS, {"ids": list(tag_ids)})
    names: dict[int, str] = {row.id: row.name for row in rows}
    if len(names) < len(tag_ids):
        raise TagNotFoundError
    return names


async def _remove(connection: AsyncConnection, tag_id: int) -> int:
    had = (await connection.execute(_EMPTY, {"id": tag_id})).rowcount
    await connection.execute(_DELETE, {"id": tag_id})
    return had
