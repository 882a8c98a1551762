"""Read and write the values of own fields in a customers file.

Their columns are ``field:`` and the key of a field, in every format. What a file says wins: it is
noted in the audit with what it replaced.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.identifiers import email_identifier
from service.core.json_values import dumps
from service.core.own_fields import FieldKind, OwnField, Value, read_value, still_valid
from service.db.columns import pack, unpack
from service.db.customers.editing import OWN
from service.db.customers.own_fields.catalogue import list_fields
from service.db.customers.own_fields.values import FIELDS_OF_CUSTOMER, hold_fields
from service.transfer.customer_lines import CustomerLine
from service.transfer.formats.format import OWN_COLUMN
from service.transfer.formulas import unescaped
from service.transfer.lines import RefusedLineError

OTHER_FIELDS = f"""(l.fields <> '{{}}' AND NOT {FIELDS_OF_CUSTOMER} @> l.fields
 OR EXISTS (SELECT FROM jsonb_array_elements_text(l.cleared_fields) k
   WHERE {FIELDS_OF_CUSTOMER} ? k))"""
"""The SQL condition that a line ``l`` would change own fields of ``customers c``."""

_SAID = unpack(
    {
        "place": "integer",
        "known": "boolean",
        "id": "bigint",
        "email": "text",
        "external": "text",
        "phone": "text",
        "key": "text",
        "value": "jsonb",
    }
)
# A new customer's number is not known here, but what means them is. Two lines may mean one.
_WRITE = text(f"""
WITH said AS (
  SELECT DISTINCT ON (customer_id, key)
    coalesce(l.id, e.customer_id, x.customer_id, p.customer_id) AS customer_id,
    l.key, l.value, l.known
  FROM ({_SAID}) l
  LEFT JOIN identifiers e ON e.identifier = l.email
  LEFT JOIN identifiers x ON x.identifier = l.external
  LEFT JOIN identifiers p ON p.identifier = l.phone
  WHERE coalesce(l.id, e.customer_id, x.customer_id, p.customer_id) IS NOT NULL
  ORDER BY customer_id, key, place DESC
),
told AS (
  SELECT customer_id, bool_or(known) AS known,
    coalesce(jsonb_object_agg(key, value) FILTER (WHERE value IS NOT NULL), '{{}}') AS filled,
    coalesce(array_agg(key) FILTER (WHERE value IS NULL), '{{}}') AS cleared
  FROM said GROUP BY customer_id
),
changed AS MATERIALIZED (
  SELECT t.customer_id, t.known, coalesce(f.field_values, '{{}}') AS before,
    (coalesce(f.field_values, '{{}}') - t.cleared) || t.filled AS after
  FROM told t LEFT JOIN customer_fields f ON f.customer_id = t.customer_id
),
filled AS (
  INSERT INTO customer_fields (customer_id, field_values)
  SELECT customer_id, after FROM changed WHERE after NOT IN (before, '{{}}') ORDER BY customer_id
  ON CONFLICT (customer_id) DO UPDATE SET field_values = excluded.field_values
),
emptied AS (
  DELETE FROM customer_fields f USING changed c
  WHERE f.customer_id = c.customer_id AND c.after = '{{}}'
)
INSERT INTO audit (actor, action, customer_id, details)
SELECT CAST(:actor AS text), 'customer.updated', c.customer_id,
  '{{"imported": true}}' || (
    SELECT jsonb_object_agg('{OWN}' || k, jsonb_build_array(c.before -> k, c.after -> k))
    FROM jsonb_object_keys(c.before || c.after) k
    WHERE c.before -> k IS DISTINCT FROM c.after -> k)
FROM changed c WHERE c.known AND c.after <> c.before ORDER BY c.customer_id
""")


def own_columns(fields: Sequence[OwnField]) -> list[str]:
    """Return the columns of own fields in files."""
    return [f"{OWN_COLUMN}{field.key}" for field in fields]


def own_values(
    cells: Mapping[str, str],
    fields: Sequence[OwnField],
    date_format: str | None,
    *,
    clear_empty: bool,
) -> dict[str, Value | None]:
    """Return the values that a line says, by key; None clears. Raises RefusedLineError."""
    values = dict[str, Value | None]()
    for field in fields:
        column = f"{OWN_COLUMN}{field.key}"
        written = unescaped(cells.get(column, "").strip()).strip()
        if not written:
            if clear_empty and column in cells:
                values[field.key] = None
            continue
        if field.kind is FieldKind.DATE:
            written = _day(written, date_format)
        try:
            values[field.key] = read_value(field, written)
        except ValueError as error:
            problem = f"{written[:40]!r} is no value of {field.label}"
            raise RefusedLineError(column, problem, f"it {error}; or clear the cell") from None
    return values


def _day(written: str, date_format: str | None) -> str:
    """Return the day of a date that may have a time; other texts as they are."""
    try:
        if date_format is not None:
            return datetime.strptime(written, date_format).date().isoformat()  # noqa: DTZ007
        return datetime.fromisoformat(written.upper()).date().isoformat()
    except ValueError:
        return written


async def hold_own_fields(connection: AsyncConnection, lines: Sequence[CustomerLine]) -> None:
    """Keep the fields as they are, if `write_own_fields` will write. Call it before any lock."""
    if any(line.fields for line in lines):
        await hold_fields(connection)


async def write_own_fields(
    connection: AsyncConnection,
    new: Sequence[CustomerLine],
    changed: Sequence[CustomerLine],
    actor: str,
) -> None:
    """Write what lines say of own fields; those of ``changed`` have the ids of customers.

    The customers exist and are locked; `hold_own_fields` was called. The caller commits.
    """
    lines = [(line, known) for known in (False, True) for line in (changed if known else new)]
    if not any(line.fields for line, _ in lines):
        return
    fields = await list_fields(connection)
    keys = {field.key for field in fields}
    rows = [
        (
            place,
            known,
            line.id,
            line.email_key and email_identifier(line.email_key),
            line.external,
            line.phone_identifier,
            key,
            value if value is None else dumps(value).decode(),
        )
        for place, (line, known) in enumerate(lines)
        for key, value in _of_today(fields, keys, line.fields)
    ]
    if rows:
        names = ("place", "known", "id", "email", "external", "phone", "key", "value")
        packed = pack(dict(zip(names, zip(*rows, strict=True), strict=True)))
        await connection.execute(_WRITE, {**packed, "actor": actor})


def _of_today(
    fields: Sequence[OwnField], keys: set[str], values: Mapping[str, Value | None]
) -> list[tuple[str, Value | None]]:
    """Return the values that the fields take, which may have changed since the file was read."""
    filled = still_valid(fields, {key: value for key, value in values.items() if value is not None})
    cleared = [key for key, value in values.items() if value is None and key in keys]
    return [*filled.items(), *((key, None) for key in cleared)]
