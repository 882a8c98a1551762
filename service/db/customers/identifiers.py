"""The e-mails, phones and names that a customer is known by, now and before corrections."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.personal_ids import Identifiers
from service.db.customers.customer_row import CustomerRow
from service.db.customers.identity.claims import emails_of

# An edit is stored as {"name": [before, after]}.
_EDITED = text("""
SELECT DISTINCT field, value
FROM audit, unnest(ARRAY['name', 'phone']) AS f (field)
CROSS JOIN LATERAL jsonb_array_elements_text(
  CASE WHEN jsonb_typeof(details -> field) = 'array' THEN details -> field ELSE '[]' END
) AS v (value)
WHERE customer_id = :id AND value <> ''
ORDER BY field, value
""")


async def identifiers_of(connection: AsyncConnection, customer: CustomerRow) -> Identifiers:
    """Return what a customer is and was known by; the current values come first."""
    known: dict[str, list[str]] = {"name": [], "phone": []}
    for field, current in (("name", customer.name), ("phone", customer.phone)):
        known[field] += [current] if current else []
    for row in await connection.execute(_EDITED, {"id": customer.id}):
        known[row.field] += [row.value] if row.value not in known[row.field] else []
    emails = await emails_of(connection, customer.id)
    return Identifiers(
        email_keys=sorted(emails, key=lambda email: email != customer.email_key),
        phones=known["phone"],
        names=known["name"],
    )
