"""What staff change about one identifier or one order: give, take away, assign, undo that."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.customer_ids import customer_ref
from service.core.identifiers import IdentifierKind, customer_identifier, kind_of
from service.core.json_values import dumps
from service.db.accounts.audit import note
from service.db.customers.identity.assignment import recount
from service.db.customers.identity.claims import claim, of_customer, owner_of
from service.db.customers.identity.naming import OWNER_OF_ORDER, say_what_named
from service.db.customers.identity.not_a_person import OwnerChangedError
from service.db.customers.identity.own_email import keep_own_email
from service.db.customers.identity.split import REASSIGNED
from service.db.locks import lock_customers
from service.db.search_text import write_search_text

GREATEST_VERSION = 2**63 - 1


class NotTheirsError(Exception):
    """The customer does not have this identifier."""


class NamesOrdersError(Exception):
    """Orders belong to the customer by this identifier. A split takes both away."""


class NoSuchCustomerError(Exception):
    """There is no such customer."""


class NoSuchOrderError(Exception):
    """There is no such order, or its person was erased."""


class AssignedError(Exception):
    """The order belongs to a customer; ``args[0]`` is their number."""


_EXISTS = text("SELECT EXISTS (SELECT FROM customers WHERE id = :id)")
_NAMES_ORDERS = text("""
SELECT EXISTS (SELECT FROM orders WHERE customer_id = :id
  AND :identifier IN (identifier, other_identifier))
""")
_TAKE_AWAY = text("DELETE FROM identifiers WHERE identifier = :identifier")
# No event has a greater key, so none gives the order to anybody else.
_ASSIGN = text("""
UPDATE orders SET customer_id = :customer, identifier = :identifier, other_identifier = NULL,
  named_version = :version, named_at = 'infinity', named_event_id = ''
WHERE id = :id AND NOT erased AND customer_id IS NOT DISTINCT FROM CAST(:owner AS bigint)
  AND (customer_id IS NULL OR named_at = 'infinity')
""")
_ORDER = text("""
SELECT customer_id, erased, customer_id IS NOT NULL AND named_at = 'infinity' AS by_hand,
  jsonb_build_object('identifier', identifier, 'other_identifier', other_identifier,
    'named_version', named_version, 'named_at', named_at, 'named_event_id', named_event_id) AS named
FROM orders WHERE id = :id
""")
_NAMED_BEFORE = text("""
SELECT coalesce(details -> 'named', '{}') AS named FROM audit
WHERE action = 'order.assigned' AND details ->> 'order' = :id AND NOT details ? 'from'
ORDER BY id DESC LIMIT 1
""")
_UNASSIGN = text("""
UPDATE orders o SET customer_id = NULL, identifier = n.identifier,
  other_identifier = n.other_identifier, named_version = n.named_version, named_at = n.named_at,
  named_event_id = n.named_event_id
FROM jsonb_populate_record(CAST(NULL AS orders), CAST(:named AS jsonb)) n
WHERE o.id = :id AND NOT o.erased AND o.customer_id = :owner AND o.named_at = 'infinity'
""")
_BELONGS = text(f"""
UPDATE orders o SET customer_id = {OWNER_OF_ORDER} WHERE o.id = :id RETURNING customer_id
""")


async def give(connection: AsyncConnection, customer_id: int, identifier: str, actor: str) -> None:
    """Give an identifier to a customer; the caller commits.

    Orders that name it belong to them from now on. Raises NoSuchCustomerError, TakenError.
    """
    await lock_customers(connection, [customer_id])
    if not (await connection.execute(_EXISTS, {"id": customer_id})).scalar_one():
        raise NoSuchCustomerError
    theirs = {row.identifier for row in await of_customer(connection, customer_id)}
    if identifier in theirs:
        return
    await claim(connection, customer_id, identifier, actor)
    await write_search_text(connection, [customer_id])
    await note(
        connection,
        actor,
        "identifier.added",
        customer_id=customer_id,
        details={"identifier": identifier},
    )


async def take_away(
    connection: AsyncConnection, customer_id: int, identifier: str, actor: str
) -> None:
    """Take an identifier that no order was named by away from a customer; the caller commits.

    If it is their own e-mail, another one of theirs takes its place, or none. Raises
    NoSuchCustomerError, NotTheirsError, NamesOrdersError.
    """
    now = await lock_customers(connection, [customer_id])
    names = {"id": customer_id, "identifier": identifier}
    if not (await connection.execute(_EXISTS, {"id": customer_id})).scalar_one():
        raise NoSuchCustomerError
    if identifier not in {row.identifier for row in await of_customer(connection, customer_id)}:
        raise NotTheirsError
    await say_what_named(connection, [customer_id])
    merged = kind_of(identifier) is IdentifierKind.CUSTOMER
    if merged or (await connection.execute(_NAMES_ORDERS, names)).scalar_one():
        raise NamesOrdersError
    await connection.execute(_TAKE_AWAY, {"identifier": identifier})
    await keep_own_email(connection, [customer_id])
    await recount(connection, [customer_id], now)
    await note(
        connection,
        actor,
        "identifier.removed",
        customer_id=customer_id,
        details={"identifier": identifier},
    )
    await connection.execute(REASSIGNED)


async def assign_order(
    connection: AsyncConnection, order_id: str, customer_id: int, actor: str
) -> None:
    """Give an order to a customer; the caller commits.

    It is unattributed, or staff gave it to another customer. Raises NoSuchCustomerError,
    NoSuchOrderError, AssignedError.
    """
    order = (await connection.execute(_ORDER, {"id": order_id})).one_or_none()
    owner: int | None = order.customer_id if order and order.by_hand else None
    concerned = sorted({customer_id, owner or customer_id})
    now = await lock_customers(connection, concerned)
    if not (await connection.execute(_EXISTS, {"id": customer_id})).scalar_one():
        raise NoSuchCustomerError
    if owner == customer_id:
        return
    parameters = {
        "id": order_id,
        "customer": customer_id,
        "owner": owner,
        "identifier": customer_identifier(customer_id),
        "version": GREATEST_VERSION,
    }
    if not (await connection.execute(_ASSIGN, parameters)).rowcount:
        order = (await connection.execute(_ORDER, {"id": order_id})).one_or_none()
        if order is None or (order.erased and order.customer_id is None):
            raise NoSuchOrderError
        if order.customer_id == customer_id:
            return
        raise AssignedError(order.customer_id)
    await recount(connection, concerned, now)
    details = {"order": order_id}
    if owner:
        details["from"] = customer_ref(owner)
    elif order and order.named["identifier"]:  # it was marked as no person
        details["named"] = order.named
    await note(connection, actor, "order.assigned", customer_id=customer_id, details=details)


async def unassign_order(connection: AsyncConnection, order_id: str, actor: str) -> None:
    """Undo that staff gave an order to a customer; the caller commits.

    What named it before does so again. An event that came meanwhile has no effect on that until it
    comes again. Raises NoSuchOrderError, AssignedError if an event named the customer, and
    OwnerChangedError: then try again.
    """
    order = (await connection.execute(_ORDER, {"id": order_id})).one_or_none()
    if order is None or (order.erased and order.customer_id is None):
        raise NoSuchOrderError
    if order.customer_id is None:
        return
    if not order.by_hand:
        raise AssignedError(order.customer_id)
    owner = order.customer_id
    before = (await connection.execute(_NAMED_BEFORE, {"id": order_id})).scalar() or {}
    names = [before.get("identifier"), before.get("other_identifier")]
    means = {await owner_of(connection, each) for each in names if each}
    concerned = sorted({owner, *means} - {None})
    now = await lock_customers(connection, concerned)
    parameters = {"id": order_id, "owner": owner, "named": dumps(before).decode()}
    if not (await connection.execute(_UNASSIGN, parameters)).rowcount:
        raise OwnerChangedError
    belongs = (await connection.execute(_BELONGS, {"id": order_id})).scalar_one()
    if belongs is not None and belongs not in concerned:
        raise OwnerChangedError
    await recount(connection, concerned, now)
    details = {"order": order_id}
    await note(connection, actor, "order.unassigned", customer_id=owner, details=details)
