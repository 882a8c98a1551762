"""The views that people saved: their own and shared ones. The caller commits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.json_values import dumps
from service.core.scopes import Actor, Scope
from service.core.tags import tag_key
from service.db.accounts.audit import note
from service.db.customers.customer_filter import CustomerFilter

LONGEST_NAME = 100
DEFAULT_SORT = "-dateCreated"


class ViewNotFoundError(Exception):
    """There is no such view, or it is somebody else's and not shared."""


class NotYourViewError(Exception):
    """The view is somebody else's. Only they and admins may change it."""


class NameTakenError(Exception):
    """The person has another view of this name."""


@dataclass(frozen=True)
class View:
    """A filter with a name."""

    key: str
    """Its id, or the name of one that every shop has."""
    name: str
    filter: CustomerFilter
    sort: str = DEFAULT_SORT
    owner: str | None = None
    """None: every shop has it, and nobody can change it."""
    shared: bool = True
    description: str = ""
    """What it is for, of a view that every shop has."""
    date_updated: datetime | None = None

    @property
    def ready_made(self) -> bool:
        """Whether every shop has it."""
        return self.owner is None

    def may_change(self, actor: Actor) -> bool:
        """Return whether somebody may change it: its owner may, and admins if it is shared."""
        return self.owner == actor.name or (
            self.owner is not None and self.shared and Scope.ADMIN in actor.scopes
        )


_COLUMNS = "id, owner, name, shared, filter, sort, date_updated"
_VISIBLE = text(f"""
SELECT {_COLUMNS} FROM views WHERE shared OR owner = :owner ORDER BY lower(name), id
""")
_ALL = text(f"SELECT {_COLUMNS} FROM views ORDER BY id")
_ONE = text(f"SELECT {_COLUMNS} FROM views WHERE id = :id AND (shared OR owner = :owner)")
_CREATE = text("""
INSERT INTO views (owner, name, shared, filter, sort)
VALUES (:owner, :name, :shared, CAST(:filter AS jsonb), :sort) RETURNING id
""")
_UPDATE = text("""
UPDATE views SET name = :name, shared = :shared, filter = CAST(:filter AS jsonb), sort = :sort,
  date_updated = clock_timestamp()
WHERE id = :id
""")
_TAG_FILTERS = ("tagsAll", "tagsAny", "tagsNone")
_WITH_TAGS = text("""
SELECT id, filter FROM views WHERE filter ?| ARRAY['tagsAll', 'tagsAny', 'tagsNone'] ORDER BY id
""")
_WITH_FILTER = text("SELECT id, filter FROM views WHERE filter ? :name ORDER BY id")
_SET_FILTER = text("UPDATE views SET filter = CAST(:filter AS jsonb) WHERE id = :id")
_FORGET_COUNTS = text("DELETE FROM view_counts WHERE view = :key")
_DELETE = text("DELETE FROM views WHERE id = :id")


def _view(row: Any) -> View:
    return View(
        str(row.id),
        row.name,
        CustomerFilter.model_validate(row.filter),
        row.sort,
        row.owner,
        row.shared,
        date_updated=row.date_updated,
    )


async def visible(connection: AsyncConnection, actor: Actor) -> Sequence[View]:
    """Return the views that somebody sees, by name: their own and the shared ones."""
    rows = await connection.execute(_VISIBLE, {"owner": actor.name})
    return [_view(row) for row in rows]


async def everybodys(connection: AsyncConnection) -> Sequence[View]:
    """Return all saved views, whoever sees them."""
    return [_view(row) for row in await connection.execute(_ALL)]


async def read(connection: AsyncConnection, view_id: int, actor: Actor) -> View:
    """Return a saved view. Raises ViewNotFoundError."""
    row = (await connection.execute(_ONE, {"id": view_id, "owner": actor.name})).one_or_none()
    if row is None:
        raise ViewNotFoundError
    return _view(row)


async def create(
    connection: AsyncConnection,
    actor: Actor,
    name: str,
    chosen: CustomerFilter,
    sort: str,
    *,
    shared: bool,
) -> int:
    """Save a view and return its id. Raises NameTakenError."""
    values = _values(name, chosen, sort, shared=shared)
    try:
        async with connection.begin_nested():
            created = await connection.execute(_CREATE, {**values, "owner": actor.name})
    except IntegrityError:
        raise NameTakenError from None
    view_id = int(created.scalar_one())
    await _note(connection, actor, "view.created", view_id, name, chosen)
    return view_id


async def update(
    connection: AsyncConnection,
    actor: Actor,
    view_id: int,
    name: str,
    chosen: CustomerFilter,
    sort: str,
    *,
    shared: bool,
) -> None:
    """Change a view. With another filter, its counts begin anew.

    Raises ViewNotFoundError, NotYourViewError, NameTakenError.
    """
    before = await _changeable(connection, actor, view_id)
    values = _values(name, chosen, sort, shared=shared)
    try:
        async with connection.begin_nested():
            await connection.execute(_UPDATE, {**values, "id": view_id})
    except IntegrityError:
        raise NameTakenError from None
    if before.filter != chosen:
        await connection.execute(_FORGET_COUNTS, {"key": str(view_id)})
    await _note(connection, actor, "view.updated", view_id, name, chosen)


async def delete(connection: AsyncConnection, actor: Actor, view_id: int) -> None:
    """Delete a view and its counts. Raises ViewNotFoundError, NotYourViewError."""
    before = await _changeable(connection, actor, view_id)
    await connection.execute(_DELETE, {"id": view_id})
    await connection.execute(_FORGET_COUNTS, {"key": str(view_id)})
    await _note(connection, actor, "view.deleted", view_id, before.name, before.filter)


async def rename_tag(connection: AsyncConnection, old: str, new: str) -> None:
    """Have all views say the new name of a tag."""
    key = tag_key(old)
    for row in await connection.execute(_WITH_TAGS):
        renamed = {
            name: list(dict.fromkeys(new if tag_key(tag) == key else tag for tag in value))
            if name in _TAG_FILTERS
            else value
            for name, value in row.filter.items()
        }
        if renamed != row.filter:
            filter_json = dumps(renamed).decode()
            await connection.execute(_SET_FILTER, {"id": row.id, "filter": filter_json})


async def rename_choices(
    connection: AsyncConnection, name: str, renamed: Mapping[str, str]
) -> None:
    """Have all views say the new names of choices of an own field, whose filter is ``name``."""
    new_names = {tag_key(old): new for old, new in renamed.items()}
    for row in await connection.execute(_WITH_FILTER, {"name": name}):
        choices = [new_names.get(tag_key(choice), choice) for choice in row.filter[name]]
        filter_json = dumps({**row.filter, name: list(dict.fromkeys(choices))}).decode()
        await connection.execute(_SET_FILTER, {"id": row.id, "filter": filter_json})


async def _changeable(connection: AsyncConnection, actor: Actor, view_id: int) -> View:
    view = await read(connection, view_id, actor)
    if not view.may_change(actor):
        raise NotYourViewError
    return view


def _values(name: str, chosen: CustomerFilter, sort: str, *, shared: bool) -> dict[str, Any]:
    return {
        "name": name,
        "shared": shared,
        "filter": dumps(chosen.stored).decode(),
        "sort": sort,
    }


async def _note(
    connection: AsyncConnection,
    actor: Actor,
    action: str,
    view_id: int,
    name: str,
    chosen: CustomerFilter,
) -> None:
    """Note what somebody did. The audit gets the names of filters; their values may be personal."""
    details = {"view": str(view_id), "name": name, "filters": sorted(chosen.query)}
    await note(connection, actor.name, action, details=details)
