"""People are found and named by what they have, and nothing is left over from others (9)."""

from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.identifiers import email_key
from service.core.tags import tag_key
from service.db.operations.verify.findings import (
    MOST_SHOWN,
    REBUILD,
    RESTORE,
    Check,
    Fault,
    fault_if,
)
from service.db.search_text import WAITING, search_text

SEARCH = text(f"""
SELECT coalesce(c.id, s.customer_id) AS customer,
       CASE WHEN c.id IS NULL THEN 'left over' WHEN s.customer_id IS NULL THEN 'missing'
            ELSE 'differs' END AS "searchText"
FROM customers c FULL JOIN customer_search s ON s.customer_id = c.id
WHERE c.id IS NULL OR s.customer_id IS NULL
  OR NOT {WAITING} AND s.searched <> {search_text("c")}  -- a worker writes those that wait
LIMIT :most
""")

INTERACTIONS_SQL = """
SELECT i.customer_id AS customer, count(*) AS interactions,
       EXISTS (SELECT FROM audit a WHERE a.customer_id = i.customer_id
                AND a.action = 'customer.erased') AS erased
FROM interactions i LEFT JOIN customers c ON c.id = i.customer_id
WHERE c.id IS NULL GROUP BY i.customer_id"""
"""A query for the interactions of customers who do not exist, and whether they were erased."""
ERASURES = """
recorded AS (  -- the latest erasure of each hash, as the audit has it
  SELECT DISTINCT ON (hash) decode(named.hash, 'hex') AS email_hash,
         CAST(named.at AS timestamptz) AS erased_at, a.customer_id
  FROM audit a CROSS JOIN LATERAL jsonb_each_text(a.details -> 'erased') AS named(hash, at)
  WHERE a.action = 'customer.erased' AND jsonb_typeof(a.details -> 'erased') = 'object'
  ORDER BY hash, a.id DESC
)"""
"""A CTE: the erased identifiers that the audit has."""
ERASED = text(f"""
WITH {ERASURES}
SELECT r.customer_id AS customer, r.erased_at AS "erasedAt", e.erased_at AS stored
FROM recorded r LEFT JOIN erased e ON e.email_hash = r.email_hash
WHERE e.erased_at IS DISTINCT FROM r.erased_at LIMIT :most
""")
# Older releases did not record the hashes. Then there is only this to hold against the table.
_ERASED_EMPTIED = text("""
SELECT count(*) AS erasures FROM audit WHERE action = 'customer.erased'
HAVING count(*) > 0 AND NOT EXISTS (SELECT FROM erased)
""")

_TAGS_OF_NOBODY = text("""
SELECT customer_id AS customer, 'tag' AS what FROM customer_tags t
WHERE NOT EXISTS (SELECT FROM customers c WHERE c.id = t.customer_id)
UNION SELECT customer_id, 'bulk change' FROM bulk_changed b
WHERE NOT EXISTS (SELECT FROM customers c WHERE c.id = b.customer_id)
LIMIT :most
""")

_FIELDS_OF_NOBODY = text("""
SELECT customer_id AS customer FROM customer_fields f
WHERE NOT EXISTS (SELECT FROM customers c WHERE c.id = f.customer_id) LIMIT :most
""")
# Only what `service.core.own_fields` would store; the audit knows whether it is what was typed.
_WRONG_VALUES = text("""
SELECT v.customer_id AS customer, v.key AS field
FROM (SELECT customer_id, e.key, e.value FROM customer_fields,
        jsonb_each(CASE jsonb_typeof(field_values) WHEN 'object' THEN field_values ELSE '{}' END) e
     ) v (customer_id, key, value)
LEFT JOIN own_fields o ON o.key = v.key
WHERE NOT coalesce(CASE o.kind
  WHEN 'number' THEN jsonb_typeof(v.value) = 'number'
  WHEN 'date' THEN v.value #>> '{}' ~ '^\\d{4}-\\d\\d-\\d\\d$'
    AND pg_input_is_valid(v.value #>> '{}', 'date')
  WHEN 'choice' THEN v.value #>> '{}' = ANY(o.choices)
  ELSE jsonb_typeof(v.value) = 'string' AND v.value #>> '{}' <> '' END
  AND o.key IS NOT NULL, false)
LIMIT :most
""")
_RENAME = "Rename the tag to its right name, in the dashboard or over HTTP."
PEOPLE = (
    Check("the text that search reads is not the customer's", REBUILD, SEARCH),
    Check(
        "an interaction belongs to a customer who does not exist",
        "If the customer was erased, `crm rebuild --apply` deletes it. Otherwise restore the "
        "customer from a backup.",
        text(f"{INTERACTIONS_SQL} LIMIT :most"),
    ),
    Check(
        "a tag belongs to a customer who does not exist",
        "Restore the customer from a backup, or delete the rows of these numbers from "
        "`customer_tags` and `bulk_changed`.",
        _TAGS_OF_NOBODY,
    ),
    Check(
        "values of own fields belong to a customer who does not exist",
        "Restore the customer from a backup, or delete the rows of these numbers from "
        "`customer_fields`.",
        _FIELDS_OF_NOBODY,
    ),
    Check(
        "a customer has a value that their own field does not take",
        "Enter the right value on the customer's page. If the field itself is gone or was changed, "
        "restore it from a backup, or define it again.",
        _WRONG_VALUES,
    ),
    Check("an erased identifier is not on record as the audit has it", REBUILD, ERASED),
    Check("people were erased, and no erased identifier is on record", RESTORE, _ERASED_EMPTIED),
)

_TAGS = text("SELECT id, name, folded FROM tags")


async def tag_faults(connection: AsyncConnection) -> list[Fault]:
    """Return the tags that are compared by another text than that of their name."""
    wrong = [
        {"tag": row.id, "name": row.name}
        for row in await connection.execute(_TAGS)
        if row.folded != tag_key(row.name)
    ]
    return fault_if(wrong[:MOST_SHOWN], "a tag is compared by a key that is not its own", _RENAME)


# The normal form of nearly every e-mail is that in lower case. Postgres finds the others.
_SUSPECT_KEYS = {
    "customers": (
        text(
            "SELECT id, email, email_key FROM customers WHERE email_key <> lower(email)"
            " OR email ~ '[^A-Za-z0-9@._+-]|[.]$'"
        ),
        email_key,
    ),
    "users": (
        text("SELECT id, email, email_key FROM users WHERE email_key <> lower(email)"),
        str.lower,
    ),
}


async def email_key_faults(connection: AsyncConnection) -> list[Fault]:
    """Return the people whose e-mail and its key do not match."""
    wrong = [
        {table.removesuffix("s"): row_id}
        for table in _SUSPECT_KEYS
        for row_id, _ in await wrong_email_keys(connection, table, MOST_SHOWN)
    ]
    return fault_if(wrong, "an e-mail is compared by a key that is not its own", REBUILD)


async def wrong_email_keys(
    connection: AsyncConnection, table: str, most: int | None = None
) -> list[tuple[int, str | None]]:
    """Return the ids whose key is not their e-mail's, and the key that they should have.

    None if their e-mail does not become an address. Only Python knows the keys, so Postgres finds
    the suspects, and Python decides.
    """
    found: list[tuple[int, str | None]] = []
    query, key_of = _SUSPECT_KEYS[table]
    suspects: Any = await connection.stream(query)
    async for row in suspects:
        key = key_of(row.email)
        if key != row.email_key:
            found.append((row.id, key))
        if len(found) == most:
            break
    await suspects.close()
    return found
