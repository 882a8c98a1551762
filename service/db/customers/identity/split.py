"""Split a customer: some of their identifiers, and the orders that these named, are another person.

What a merge kept of the other one is given back, if their number is among the identifiers. No later
event joins the two again.
"""

from collections.abc import Collection

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.customer_ids import customer_ref
from service.core.identifiers import IdentifierKind, kind_of, value_of
from service.core.json_values import dumps
from service.core.order_event import NAMED_REGISTERS
from service.db import registers
from service.db.accounts.audit import note
from service.db.customers.identity.assignment import create_empty, recount
from service.db.customers.identity.claims import of_customer
from service.db.customers.identity.naming import OWNER_OF_ORDER, say_what_named
from service.db.customers.identity.own_email import keep_own_email
from service.db.customers.identity.pairs import divide
from service.db.customers.own_fields.values import give_back, hold_fields
from service.db.locks import lock_customers


class CannotSplitError(Exception):
    """The identifiers cannot be taken away; ``args[0]`` says why."""


_TAKE = text("""
UPDATE identifiers SET customer_id = :new WHERE identifier = ANY(:identifiers)
""")
_TAKE_ORDERS = text(f"""
UPDATE orders o SET customer_id = :new WHERE customer_id = :old AND {OWNER_OF_ORDER} = :new
""")
_BEFORE = text("""
SELECT details -> 'gone' AS gone, details -> 'stayed' AS stayed FROM audit
WHERE action = 'customer.merged' AND details ->> 'other' = ANY(:refs) ORDER BY id DESC LIMIT 1
""")


def _registers_of(record: str, condition: str) -> str:
    """Return assignments of the registers of a record, each if a condition holds for it."""
    return ", ".join(
        f"{column} = CASE WHEN {condition.format(*registers.columns_of(register))}"
        f" THEN {record}.{column} ELSE c.{column} END"
        for register in NAMED_REGISTERS
        for column in registers.columns_of(register)
    )


_RECORD = "(SELECT * FROM jsonb_populate_record(CAST(NULL AS customers), CAST(:{0} AS jsonb))) {0}"
_GIVE_BACK = text(f"""
UPDATE customers c SET {_registers_of("gone", "true")},
  email_opt_in = coalesce(gone.email_opt_in, false), sms_opt_in = coalesce(gone.sms_opt_in, false),
  notes = coalesce(gone.notes, '')
FROM {_RECORD.format("gone")} WHERE c.id = :new
""")
# What came from the other one, and nothing has replaced since. The value is compared, too: all that
# people type has the same key. Earlier releases did not keep its empty event id.
_CAME_FROM_OTHER = (
    "(c.{0}, c.{1}, coalesce(c.{2}, ''))"
    " IS NOT DISTINCT FROM (gone.{0}, gone.{1}, coalesce(gone.{2}, ''))"
)
_TAKE_BACK = text(f"""
UPDATE customers c SET {_registers_of("stayed", _CAME_FROM_OTHER)}
FROM {_RECORD.format("gone")}, {_RECORD.format("stayed")} WHERE c.id = :old
""")
REASSIGNED = text("UPDATE installation SET reassignments = reassignments + 1")
"""Batches that have looked up identifiers meanwhile run again. Call it last: it is one row."""


async def split(
    connection: AsyncConnection, customer_id: int, identifiers: Collection[str], actor: str
) -> int:
    """Make a new customer of some identifiers of one; return their number. The caller commits.

    Raises CannotSplitError.
    """
    await hold_fields(connection)
    now = await lock_customers(connection, [customer_id])
    theirs = {row.identifier for row in await of_customer(connection, customer_id)}
    taken = sorted(set(identifiers))
    if not taken:
        raise CannotSplitError("name at least one identifier that means the other person")
    if foreign := sorted(set(taken) - theirs):
        msg = f"this customer does not have {foreign[0]}"
        raise CannotSplitError(msg)
    if not theirs - set(taken):
        raise CannotSplitError("leave at least one identifier to this customer")
    await say_what_named(connection, [customer_id])
    new = await create_empty(connection, now)
    await connection.execute(_TAKE, {"new": new, "identifiers": taken})
    await connection.execute(_TAKE_ORDERS, {"old": customer_id, "new": new})
    await _give_back(connection, customer_id, new, taken)
    await keep_own_email(connection, [customer_id, new])
    await divide(connection, customer_id, new, actor)
    await recount(connection, [customer_id, new], now)
    await note(
        connection,
        actor,
        "customer.split",
        customer_id=customer_id,
        details={"other": customer_ref(new), "identifiers": taken},
    )
    await connection.execute(REASSIGNED)
    return new


async def _give_back(
    connection: AsyncConnection, old: int, new: int, taken: Collection[str]
) -> None:
    """Give both customers back what they were before one was merged into the other."""
    refs = [
        customer_ref(int(value_of(each)))
        for each in taken
        if kind_of(each) is IdentifierKind.CUSTOMER
    ]
    before = (await connection.execute(_BEFORE, {"refs": refs})).one_or_none() if refs else None
    if before is None or before.gone is None:
        return
    # An erasure may have removed what was kept of the one who stayed.
    before_stayed = before.stayed or {}
    gone, stayed = dumps(before.gone).decode(), dumps(before_stayed).decode()
    await connection.execute(_GIVE_BACK, {"gone": gone, "new": new})
    await connection.execute(_TAKE_BACK, {"gone": gone, "stayed": stayed, "old": old})
    if fields := before.gone.get("own_fields"):
        await give_back(connection, old, new, fields, before_stayed.get("own_fields") or {})
