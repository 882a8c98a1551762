"""Keep a customer's own e-mail one of those that mean them."""

from collections.abc import Iterable

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

# Any later event may replace it, because it has no key.
_REPLACE = text("""
UPDATE customers c SET email = e.email, email_key = e.email, email_at = NULL, email_event = NULL
FROM (
  SELECT (
    SELECT substr(identifier, 7) FROM identifiers
    WHERE customer_id = :id AND identifier LIKE 'email:%' ORDER BY since, identifier LIMIT 1
  ) AS email
) e
WHERE c.id = :id AND c.email_key IS DISTINCT FROM e.email AND NOT EXISTS (
  SELECT FROM identifiers WHERE customer_id = :id AND identifier = 'email:' || c.email_key)
""")


async def keep_own_email(connection: AsyncConnection, ids: Iterable[int]) -> None:
    """Replace own e-mails that do not mean these customers any more, one after the other.

    The first of their other e-mails takes its place, or none. The caller has locked them, and lists
    a customer who loses an e-mail before the one who gets it: no two may have the same one.
    """
    for customer_id in ids:
        await connection.execute(_REPLACE, {"id": customer_id})
