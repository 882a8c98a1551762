"""Give a tag to all customers of a filter, or take it away, and undo exactly that.

The caller commits. Each bulk change records whom it changed. Who had the tag before, or did not
have it, is not changed by it, and neither by its undoing.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.bulk_change import BulkKind
from service.core.tags import tag_key, tag_name
from service.db.accounts.audit import note
from service.db.customers.filters import Filter
from service.db.customers.tags.tagging import find_or_create
from service.db.locks import AdvisoryLock, share_lock

MOST_CUSTOMERS = 100_000
"""Customers that one bulk change may change. More would hold up merges and erasures too long."""


class TooManyCustomersError(Exception):
    """The filter chooses more customers than one bulk change may change; ``args[0]`` of them."""


class OtherNumberError(Exception):
    """The filter chooses another number of customers than was shown; ``args[0]`` is it now."""


class CannotUndoError(Exception):
    """The bulk change cannot be undone; ``args[0]`` says why."""


class BulkNotFoundError(Exception):
    """There is no such bulk change."""


class Preview(NamedTuple):
    """What a bulk change would do."""

    tag: str
    """The tag's name as it is, or as it would be."""
    matching: int
    """Customers of the filter."""
    changing: int
    """How many of these would get the tag or lose it."""


class BulkChange(NamedTuple):
    """What was done to many customers at once."""

    id: int
    at: datetime
    actor: str
    kind: BulkKind
    tag: str
    customers: int
    undone_at: datetime | None
    undone_by: str | None
    can_be_undone: bool


_HAS = "EXISTS (SELECT FROM customer_tags ct WHERE ct.customer_id = c.id AND ct.tag_id = :tag)"
_TAG = text("SELECT id, name FROM tags WHERE folded = :folded")
_BEGIN = text("""
INSERT INTO bulk_changes (actor, kind, tag_id, tag, customers)
SELECT :actor, :kind, id, name, 0 FROM tags WHERE id = :tag RETURNING id
""")
_COUNTED = text("UPDATE bulk_changes SET customers = :customers WHERE id = :id")
_UNDO_ADDING = text("""
DELETE FROM customer_tags WHERE bulk_id = :id
""")
_UNDO_REMOVING = text("""
INSERT INTO customer_tags (customer_id, tag_id, bulk_id)
SELECT c.id, :tag, b.given_by_bulk FROM bulk_changed b JOIN customers c ON c.id = b.customer_id
WHERE b.bulk_id = :id ORDER BY c.id
ON CONFLICT DO NOTHING
""")
_UNDONE = text("""
UPDATE bulk_changes SET undone_at = clock_timestamp(), undone_by = :actor WHERE id = :id
""")
_LOCK = text("SELECT kind, tag_id, tag, undone_at FROM bulk_changes WHERE id = :id FOR UPDATE")
_LIST = text("""
SELECT id, at, actor, kind, tag, customers, undone_at, undone_by,
  undone_at IS NULL AND tag_id IS NOT NULL AS can_be_undone
FROM bulk_changes WHERE CAST(:id AS bigint) IS NULL OR id = :id ORDER BY id DESC LIMIT :most
""")


def _adding(where: str) -> TextClause:
    return text(f"""
WITH given AS (
  INSERT INTO customer_tags (customer_id, tag_id, bulk_id)
  SELECT c.id, :tag, :id FROM customers c WHERE {where} ORDER BY c.id
  ON CONFLICT DO NOTHING RETURNING customer_id
)
INSERT INTO bulk_changed (bulk_id, customer_id) SELECT :id, customer_id FROM given
""")


def _removing(where: str) -> TextClause:
    return text(f"""
WITH taken AS (
  DELETE FROM customer_tags d USING customers c
  WHERE d.customer_id = c.id AND d.tag_id = :tag AND {where} RETURNING d.customer_id, d.bulk_id
)
INSERT INTO bulk_changed (bulk_id, customer_id, given_by_bulk)
SELECT :id, customer_id, bulk_id FROM taken
""")


async def preview(
    connection: AsyncConnection, chosen: Filter, kind: BulkKind, written: str
) -> Preview:
    """Return what a bulk change would do; write nothing. Raises ValueError for a wrong name."""
    name = tag_name(written)
    known = (await connection.execute(_TAG, {"folded": tag_key(name)})).one_or_none()
    where, parameters = chosen.where()
    would = f"count(*) FILTER (WHERE {'NOT ' if kind is BulkKind.ADD_TAG else ''}{_HAS})"
    query = text(f"SELECT count(*) AS matching, {would} AS changing FROM customers c WHERE {where}")
    parameters["tag"] = known.id if known else 0
    row = (await connection.execute(query, parameters)).one()
    return Preview(known.name if known else name, row.matching, row.changing)


async def apply(
    connection: AsyncConnection,
    chosen: Filter,
    kind: BulkKind,
    written: str,
    actor: str,
    expected: int | None = None,
) -> BulkChange:
    """Give the tag to all customers of the filter, or take it away.

    ``expected`` is how many a person was told that it changes. Raises OtherNumberError if they are
    others by now, TooManyCustomersError, and ValueError for a wrong name.
    """
    await share_lock(connection, AdvisoryLock.TAGS)
    would = await preview(connection, chosen, kind, written)
    if would.changing > MOST_CUSTOMERS:
        raise TooManyCustomersError(would.changing)
    key = tag_key(tag_name(written))
    if kind is BulkKind.REMOVE_TAG and not would.changing:
        tag: int | None = (await connection.execute(_TAG, {"folded": key})).scalar_one_or_none()
        if tag is None:
            msg = "is not a tag that anybody has"
            raise ValueError(msg)
    else:
        tag = (await find_or_create(connection, [written]))[key]
    begun = {"actor": actor, "kind": kind, "tag": tag}
    bulk_id = (await connection.execute(_BEGIN, begun)).scalar_one()
    where, parameters = chosen.where()
    statement = _adding(where) if kind is BulkKind.ADD_TAG else _removing(where)
    done = await connection.execute(statement, {**parameters, "tag": tag, "id": bulk_id})
    if expected not in {None, done.rowcount}:
        raise OtherNumberError(done.rowcount)
    await connection.execute(_COUNTED, {"id": bulk_id, "customers": done.rowcount})
    details = {
        "kind": kind,
        "tag": would.tag,
        "customers": done.rowcount,
        "filters": chosen.names,
        "bulk": bulk_id,
    }
    await note(connection, actor, "customers.tagged", details=details)
    return await read(connection, bulk_id)


async def undo(connection: AsyncConnection, bulk_id: int, actor: str) -> int:
    """Undo a bulk change; return how many customers that changed.

    Who got the tag by it, and still has it from it, loses it. Who lost the tag gets it again.
    Raises BulkNotFoundError, CannotUndoError.
    """
    await share_lock(connection, AdvisoryLock.TAGS)
    row = (await connection.execute(_LOCK, {"id": bulk_id})).one_or_none()
    if row is None:
        raise BulkNotFoundError
    if row.undone_at is not None:
        msg = "it was undone already"
        raise CannotUndoError(msg)
    if row.tag_id is None:
        msg = "the tag was deleted or merged into another one since"
        raise CannotUndoError(msg)
    adding = row.kind == BulkKind.ADD_TAG
    done = (
        await connection.execute(_UNDO_ADDING, {"id": bulk_id})
        if adding
        else await connection.execute(_UNDO_REMOVING, {"id": bulk_id, "tag": row.tag_id})
    )
    await connection.execute(_UNDONE, {"id": bulk_id, "actor": actor})
    details = {"kind": row.kind, "tag": row.tag, "customers": done.rowcount, "bulk": bulk_id}
    await note(connection, actor, "customers.tagging-undone", details=details)
    return done.rowcount


async def read(connection: AsyncConnection, bulk_id: int) -> BulkChange:
    """Return a bulk change. Raises BulkNotFoundError."""
    row = (await connection.execute(_LIST, {"id": bulk_id, "most": 1})).one_or_none()
    if row is None:
        raise BulkNotFoundError
    return BulkChange(*row)


async def latest(connection: AsyncConnection, most: int) -> Sequence[BulkChange]:
    """Return the latest bulk changes, the latest first."""
    rows = await connection.execute(_LIST, {"id": None, "most": most})
    return [BulkChange(*row) for row in rows]
