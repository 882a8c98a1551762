"""People are found and named by what they have, and nothing is left over from others (9)."""

from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.customers.erasure_keys import email_hash
from service.db.operations.verify.findings import (
    MOST_SHOWN,
    REBUILD,
    RESTORE,
    Check,
    Fault,
    fault_if,
)
from service.db.search_text import search_text

SEARCH = text(f"""
SELECT coalesce(c.id, s.customer_id) AS customer,
       CASE WHEN c.id IS NULL THEN 'left over' WHEN s.customer_id IS NULL THEN 'missing'
            ELSE 'differs' END AS "searchText"
FROM customers c FULL JOIN customer_search s ON s.customer_id = c.id
WHERE c.id IS NULL OR s.searched IS DISTINCT FROM {search_text("c")}
LIMIT :most
""")

FORMER = f"""
corrected AS (  -- whom each e-mail meant last, before staff corrected it
  SELECT DISTINCT ON (email_key) lower(details -> 'email' ->> 0) AS email_key, customer_id
  FROM audit
  WHERE action = 'customer.updated' AND jsonb_typeof(details -> 'email') = 'array'
    AND octet_length(details -> 'email' ->> 0) = char_length(details -> 'email' ->> 0)
  ORDER BY email_key, id DESC
),
former AS (
  SELECT k.email_key, k.customer_id FROM corrected k
  WHERE EXISTS (SELECT FROM customers c WHERE c.id = k.customer_id)
    AND NOT EXISTS (SELECT FROM customers c WHERE c.email_key = k.email_key)
    AND NOT EXISTS (SELECT FROM erased e WHERE e.email_hash = {email_hash("k.email_key")})
)"""
"""CTEs: the former e-mails that the audit has. One that has an owner again, or whose later owner
was erased, means nobody else. Only ASCII: Python and Postgres write other letters in lower case
differently."""
FORMER_MISSING = text(f"""
WITH {FORMER}
SELECT k.customer_id AS customer, f.customer_id AS stored
FROM former k LEFT JOIN former_emails f ON f.email_key = k.email_key COLLATE "C"
WHERE f.customer_id IS DISTINCT FROM k.customer_id LIMIT :most
""")
FORMER_TAKEN = text("""
SELECT f.customer_id AS customer, c.id AS owner
FROM former_emails f JOIN customers c ON c.email_key = f.email_key LIMIT :most
""")
_FORMER_UNEXPLAINED = text(f"""
WITH {FORMER}
SELECT f.customer_id AS customer FROM former_emails f
WHERE octet_length(f.email_key) = char_length(f.email_key)
  AND NOT EXISTS (SELECT FROM corrected k WHERE k.email_key = f.email_key)
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
"""A CTE: the erased e-mails that the audit has."""
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

PEOPLE = (
    Check("the text that search reads is not the customer's", REBUILD, SEARCH),
    Check("a former e-mail is missing, or means another customer", REBUILD, FORMER_MISSING),
    Check("a former e-mail is somebody's present e-mail", REBUILD, FORMER_TAKEN),
    Check(
        "no correction explains a former e-mail",
        f"{RESTORE} Or delete the row of `former_emails`: then orders by this e-mail are somebody "
        "else's.",
        _FORMER_UNEXPLAINED,
    ),
    Check(
        "an interaction belongs to a customer who does not exist",
        "If the customer was erased, `crm rebuild --apply` deletes it. Otherwise restore the "
        "customer from a backup.",
        text(f"{INTERACTIONS_SQL} LIMIT :most"),
    ),
    Check("an erased e-mail is not on record as the audit has it", REBUILD, ERASED),
    Check("people were erased, and no erased e-mail is on record", RESTORE, _ERASED_EMPTIED),
)

_SUSPECT_KEYS = {
    table: text(f"SELECT id, email, email_key FROM {table} WHERE email_key <> lower(email)")
    for table in ("customers", "users")
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
) -> list[tuple[int, str]]:
    """Return the ids whose key is not their e-mail in lower case, and the key they should have.

    Python and Postgres write some letters in lower case differently, and the keys are Python's. So
    Postgres finds the suspects, and Python decides.
    """
    found: list[tuple[int, str]] = []
    suspects: Any = await connection.stream(_SUSPECT_KEYS[table])
    async for row in suspects:
        if row.email.lower() != row.email_key:
            found.append((row.id, row.email.lower()))
        if len(found) == most:
            break
    await suspects.close()
    return found
