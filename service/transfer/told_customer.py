"""Write a customer whom a shop tells of, as a line of a customers file is written."""

from collections.abc import Mapping
from datetime import UTC, datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.transfer.customer_columns import FileFacts
from service.transfer.customer_lines import CustomerLine, customer_line
from service.transfer.customers_in import write_customers
from service.transfer.customers_planned import plan_customers
from service.transfer.formats.format import CustomerCells
from service.transfer.lines import LineFault

_LAST_CHANGE = text("""
SELECT max(at) FROM audit
WHERE customer_id = :id AND (details ? :field OR action = 'customer.created')
""")


async def write_told_customer(
    connection: AsyncConnection,
    cells: CustomerCells,
    at: datetime,
    consent_at: Mapping[str, datetime],
    *,
    actor: str,
    country: str | None,
) -> LineFault | None:
    """Create or change the customer; the caller commits. Return why not, if nothing was written.

    The values are of the time ``at``. ``consent_at`` has when each consent was given, by its
    column. Raises IntegrityError if somebody took an identifier meanwhile: then try again.
    """
    line = customer_line(cells, datetime.now(UTC), UTC, country)
    if isinstance(line, LineFault):
        return line
    facts = FileFacts(at, overwrites_notes=False)
    [plan] = await plan_customers(connection, [line], facts)
    if plan.fault:
        return plan.fault
    if plan.customer_id is not None:
        line = await _with_consent(connection, line, plan.customer_id, at, consent_at)
        [plan] = await plan_customers(connection, [line], facts)
    await write_customers(connection, [(line, plan)], facts, actor, hold_segments=False)
    return None


async def _with_consent(
    connection: AsyncConnection,
    line: CustomerLine,
    customer_id: int,
    at: datetime,
    consent_at: Mapping[str, datetime],
) -> CustomerLine:
    """Leave out a consent that was given before the last change of it here.

    A withdrawal always counts: a late one costs a sale, and a lost one breaks the law.
    """
    given = {column: consent_at.get(column, at) for column in ("Email Opt-in", "SMS Opt-in")}
    email, sms = line.email_opt_in, line.sms_opt_in
    if email and await _changed_since(
        connection, customer_id, "email_opt_in", given["Email Opt-in"]
    ):
        email = None
    if sms and await _changed_since(connection, customer_id, "sms_opt_in", given["SMS Opt-in"]):
        sms = None
    return line._replace(email_opt_in=email, sms_opt_in=sms)


async def _changed_since(
    connection: AsyncConnection, customer_id: int, field: str, at: datetime
) -> bool:
    """Return whether a consent was changed here since then."""
    changed = await connection.scalar(_LAST_CHANGE, {"id": customer_id, "field": field})
    return changed is not None and changed >= at
