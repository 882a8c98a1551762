"""The fields that there are: list, create, change and delete them. The caller commits."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.json_values import dumps
from service.core.own_fields import (
    MOST_FIELDS,
    FieldKind,
    OwnField,
    choice_names,
    field_key,
    field_label,
    suggested_key,
)
from service.core.tags import tag_key
from service.db.accounts.audit import note
from service.db.customers.own_fields.field_filter import FieldFilter, FieldTest
from service.db.customers.views.saved import rename_choices
from service.db.locks import AdvisoryLock, wait_for_lock


class FieldNotFoundError(Exception):
    """There is no such field."""


class InvalidFieldError(Exception):
    """A part of the definition is wrong; ``args`` are its name and what is wrong with it."""


class FieldConflictError(Exception):
    """What exists forbids it; ``args`` are the name of the part, if it is one, and the reason."""


class Usage(NamedTuple):
    """How many customers have a value in a field."""

    customers: int
    by_choice: Mapping[str, int]
    """Only choices that somebody has."""


_LIST = text("SELECT key, label, kind, choices FROM own_fields ORDER BY position, key")
_INSERT = text("""
INSERT INTO own_fields (key, label, kind, choices, position)
VALUES (:key, :label, :kind, CAST(:choices AS text[]), :position)
""")
_UPDATE = text("""
UPDATE own_fields SET label = :label, choices = CAST(:choices AS text[]) WHERE key = :key
""")
_ORDER = text("""
UPDATE own_fields o SET position = n.place
FROM unnest(CAST(:keys AS text[])) WITH ORDINALITY n (key, place) WHERE o.key = n.key
""")
_USAGE = text("""
SELECT field_values ->> CAST(:key AS text) AS value, count(*) AS customers
FROM customer_fields WHERE field_values ? :key GROUP BY 1
""")
_COUNT = text("SELECT count(*) FROM customer_fields WHERE field_values ? :key")
_RENAME_CHOICES = text("""
UPDATE customer_fields SET field_values = field_values || jsonb_build_object(
  CAST(:key AS text), CAST(:renamed AS jsonb) -> (field_values ->> CAST(:key AS text)))
WHERE CAST(:renamed AS jsonb) ? (field_values ->> CAST(:key AS text))
""")
_EMPTY = (
    text("DELETE FROM customer_fields WHERE field_values ? :key AND field_values - :key = '{}'"),
    text("UPDATE customer_fields SET field_values = field_values - :key WHERE field_values ? :key"),
)
_DELETE = text("DELETE FROM own_fields WHERE key = :key")


async def list_fields(connection: AsyncConnection) -> list[OwnField]:
    """Return all fields, in their order."""
    rows = await connection.execute(_LIST)
    return [OwnField(row.key, row.label, FieldKind(row.kind), tuple(row.choices)) for row in rows]


async def read_field(connection: AsyncConnection, key: str) -> OwnField:
    """Return a field. Raises FieldNotFoundError."""
    return _found(await list_fields(connection), key)


async def usage(connection: AsyncConnection, field: OwnField) -> Usage:
    """Return how many customers have a value, and each choice. It reads all values once."""
    if field.kind is not FieldKind.CHOICE:
        found = await connection.execute(_COUNT, {"key": field.key})
        return Usage(int(found.scalar_one()), {})
    rows = await connection.execute(_USAGE, {"key": field.key})
    by_choice = {row.value: row.customers for row in rows}
    return Usage(sum(by_choice.values()), by_choice)


async def create(
    connection: AsyncConnection,
    actor: str,
    label: str,
    kind: FieldKind,
    choices: Sequence[str] = (),
    key: str | None = None,
) -> OwnField:
    """Define a field; it comes last. Without a key, it gets one from its label.

    Raises InvalidFieldError, FieldConflictError.
    """
    await wait_for_lock(connection, AdvisoryLock.OWN_FIELDS)
    fields = await list_fields(connection)
    if len(fields) >= MOST_FIELDS:
        reason = f"there are {MOST_FIELDS} fields already; delete one that nobody needs first"
        raise FieldConflictError("", reason)
    label = _checked_label(label, fields)
    known = {field.key for field in fields}
    if key is None:
        key = _free(suggested_key(label), known)
    else:
        try:
            field_key(key)
        except ValueError as error:
            raise InvalidFieldError("key", str(error)) from None
        if key in known:
            raise FieldConflictError("key", "is the key of another field; choose another one")
    field = OwnField(key, label, kind, _checked_choices(kind, choices))
    parameters = {**field._asdict(), "choices": list(field.choices), "position": len(fields) + 1}
    await connection.execute(_INSERT, parameters)
    details = {"field": key, "label": label, "kind": kind}
    await note(connection, actor, "field.created", details=details)
    return field


async def change(
    connection: AsyncConnection,
    actor: str,
    key: str,
    *,
    label: str | None = None,
    choices: Sequence[str] | None = None,
    renamed: Mapping[str, str] | None = None,
    position: int | None = None,
) -> OwnField:
    """Change a field. What is None stays as it is.

    ``renamed`` has the new name of each choice that gets one, and customers who have it keep it.
    ``choices`` are all choices after that. One that is left out must not be in use. Raises
    FieldNotFoundError, InvalidFieldError, FieldConflictError.
    """
    await wait_for_lock(connection, AdvisoryLock.OWN_FIELDS)
    fields = await list_fields(connection)
    old = _found(fields, key)
    others = [field for field in fields if field.key != key]
    new = old
    if label is not None:
        new = new._replace(label=_checked_label(label, others))
    if renamed or choices is not None:
        new = new._replace(choices=await _changed_choices(connection, old, renamed or {}, choices))
    if new != old:
        parameters = {"key": key, "label": new.label, "choices": list(new.choices)}
        await connection.execute(_UPDATE, parameters)
    details: dict[str, object] = {
        name: [getattr(old, name), getattr(new, name)]
        for name in ("label", "choices")
        if getattr(old, name) != getattr(new, name)
    }
    if position is not None:
        order = [field.key for field in others]
        order.insert(min(max(position, 1), len(fields)) - 1, key)
        if order != [field.key for field in fields]:
            await connection.execute(_ORDER, {"keys": order})
            details["position"] = [fields.index(old) + 1, order.index(key) + 1]
    if details:
        await note(connection, actor, "field.changed", details={"field": key, **details})
    return new


async def delete(connection: AsyncConnection, actor: str, key: str) -> int:
    """Delete a field with all its values; return how many customers had one.

    Raises FieldNotFoundError.
    """
    await wait_for_lock(connection, AdvisoryLock.OWN_FIELDS)
    field = _found(await list_fields(connection), key)
    customers = 0
    for statement in _EMPTY:
        customers += (await connection.execute(statement, {"key": key})).rowcount
    await connection.execute(_DELETE, {"key": key})
    rest = [each.key for each in await list_fields(connection)]
    await connection.execute(_ORDER, {"keys": rest})
    details = {"field": key, "label": field.label, "customers": customers}
    await note(connection, actor, "field.deleted", details=details)
    return customers


def _found(fields: Sequence[OwnField], key: str) -> OwnField:
    for field in fields:
        if field.key == key:
            return field
    raise FieldNotFoundError(key)


def _free(key: str, known: set[str]) -> str:
    free, number = key, 2
    while free in known:
        free = f"{key[:36]}_{number}"
        number += 1
    return free


def _checked_label(written: str, others: Sequence[OwnField]) -> str:
    try:
        label = field_label(written)
    except ValueError as error:
        raise InvalidFieldError("label", str(error)) from None
    if any(tag_key(field.label) == tag_key(label) for field in others):
        raise FieldConflictError("label", "is the label of another field; choose another one")
    return label


def _checked_choices(kind: FieldKind, written: Sequence[str]) -> tuple[str, ...]:
    if kind is not FieldKind.CHOICE:
        if written:
            reason = f"must be empty, because the kind is {kind}; only choice has choices"
            raise InvalidFieldError("choices", reason)
        return ()
    try:
        return choice_names(written)
    except ValueError as error:
        raise InvalidFieldError("choices", str(error)) from None


async def _changed_choices(
    connection: AsyncConnection,
    field: OwnField,
    renamed: Mapping[str, str],
    choices: Sequence[str] | None,
) -> tuple[str, ...]:
    """Rename choices in the values of customers, and return the choices of the field after that."""
    for name in renamed:
        if name not in field.choices:
            raise InvalidFieldError("renamed", f"{name!r} is not a choice of this field")
    names = _checked_choices(field.kind, [renamed.get(name, name) for name in field.choices])
    after = names if choices is None else _checked_choices(field.kind, choices)
    # Another spelling, such as other capitals, is a new name, too.
    spelled = {tag_key(name): name for name in after}
    became = {
        old: spelled.get(tag_key(name)) for old, name in zip(field.choices, names, strict=True)
    }
    await _refuse_lost(connection, field, [old for old, new in became.items() if new is None])
    new_names = {old: new for old, new in became.items() if new is not None and new != old}
    if new_names:
        parameters = {"key": field.key, "renamed": dumps(new_names).decode()}
        await connection.execute(_RENAME_CHOICES, parameters)
        await rename_choices(connection, FieldFilter(field.key, FieldTest.IS).name, new_names)
    return after


async def _refuse_lost(connection: AsyncConnection, field: OwnField, lost: Sequence[str]) -> None:
    used = (await usage(connection, field)).by_choice if lost else {}
    for choice in lost:
        if customers := used.get(choice):
            have = "1 customer has" if customers == 1 else f"{customers:,} customers have"
            reason = (
                f"leaves out {choice!r}, which {have}; give them another one first, or rename it"
            )
            raise FieldConflictError("choices", reason)
