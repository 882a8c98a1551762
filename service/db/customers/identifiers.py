"""What a customer is known by: now, before corrections, and before customers were merged."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.customer_ids import customer_ref
from service.core.identifiers import IdentifierKind, customer_identifier, kind_of, value_of
from service.core.personal_ids import Identifiers
from service.db.customers.customer_row import CustomerRow
from service.db.customers.identity.claims import emails_among, of_customer

# An edit is stored as {"name": [before, after]}, a merge with the profiles of both. After a split,
# the profile of the one who had gone is that of whoever has their number now.
_WRITTEN = text("""
SELECT DISTINCT field, value FROM (
  SELECT field, v.value
  FROM audit CROSS JOIN unnest(ARRAY['name', 'phone']) AS f (field)
  CROSS JOIN LATERAL jsonb_array_elements_text(
    CASE WHEN jsonb_typeof(details -> field) = 'array' THEN details -> field ELSE '[]' END
  ) AS v (value)
  WHERE customer_id = ANY(:numbers)
  UNION ALL
  SELECT field, profile ->> field
  FROM audit CROSS JOIN unnest(ARRAY['name', 'phone']) AS f (field)
  CROSS JOIN LATERAL (VALUES
    (CASE WHEN customer_id = ANY(:numbers) THEN details -> 'stayed' END),
    (CASE WHEN details ->> 'other' = ANY(:refs) THEN details -> 'gone' END)
  ) AS before (profile)
  WHERE action = 'customer.merged' AND details <> '{}'
    AND (customer_id = ANY(:numbers) OR lower(details::text) LIKE ANY(CAST(:patterns AS text[])))
) known
WHERE value <> '' ORDER BY field, value
""")


def _other_pattern(number: int) -> str:
    """Return the pattern of LIKE for audit details, in lower case, that name another customer."""
    return f'%"other": "{customer_ref(number).lower()}"%'


async def identifiers_of(connection: AsyncConnection, customer: CustomerRow) -> Identifiers:
    """Return what a customer is and was known by; the current values come first."""
    keys = [row.identifier for row in await of_customer(connection, customer.id)]
    merged = [int(value_of(each)) for each in keys if kind_of(each) is IdentifierKind.CUSTOMER]
    numbers = [customer.id, *merged]
    known: dict[str, list[str]] = {"name": [], "phone": []}
    for field, current in (("name", customer.name), ("phone", customer.phone)):
        known[field] += [current] if current else []
    written = await connection.execute(
        _WRITTEN,
        {
            "numbers": numbers,
            "refs": [customer_ref(number) for number in numbers],
            "patterns": [_other_pattern(number) for number in merged],
        },
    )
    values = [(row.field, row.value) for row in written]
    values += [("phone", value_of(each)) for each in keys if kind_of(each) is IdentifierKind.PHONE]
    for field, value in values:
        known[field] += [value] if value not in known[field] else []
    return Identifiers(
        email_keys=sorted(emails_among(keys), key=lambda email: email != customer.email_key),
        phones=known["phone"],
        names=known["name"],
        keys=[customer_identifier(customer.id), *keys],
        customers=numbers,
    )
