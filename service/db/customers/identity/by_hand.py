"""What staff change about one identifier or one order: give, take away, assign, undo that."""

from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.customer_ids import customer_ref
from service.core.identifiers import IdentifierKind, customer_identifier, kind_of
from service.core.json_values import dumps
from service.db.accounts.audit import note
from service.db.customers.identity.assignment import recount
from service.db.customers.identity.claims import TakenError, claim, of_customer, owner_of
from service.db.customers.identity.naming import OWNER_OF_ORDER, say_what_named
from service.db.customers.identity.not_a_person import OwnerChangedError
from service.db.customers.identity.own_email import keep_own_email
from service.db.customers.identity.split import REASSIGNED
from service.db.locks import lock_customers
from service.db.search_text import write_search_text

GREATEST_VERSION = 2**63 - 1
TAKEN_BACK_FOR = timedelta(hours=1)
"""How long somebody can undo that they took an identifier away."""


class NotTheirsError(Exception):
    """The customer does not have this identifier."""


class NotRemovedError(Exception):
    """Nobody of this name has taken the identifier away from the customer lately."""


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
# What is needed to undo it. The audit keeps it, and an erasure deletes it there.
_BEFORE = text("""
SELECT jsonb_build_object('givenBy', i.given_by, 'since', i.since) ||
  CASE WHEN i.identifier = 'email:' || c.email_key THEN
    jsonb_build_object('email', c.email, 'emailAt', c.email_at, 'emailEvent', c.email_event)
  ELSE '{}' END AS before
FROM identifiers i JOIN customers c ON c.id = i.customer_id WHERE i.identifier = :identifier
""")
_REMOVED = f"""
SELECT DISTINCT ON (identifier)
  details ->> 'identifier' AS identifier, details -> 'before' AS before
FROM audit
WHERE customer_id = :id AND action = 'identifier.removed' AND actor = :actor
  AND at > clock_timestamp() - interval '{TAKEN_BACK_FOR.total_seconds()} seconds'
  AND details ? 'before'"""
_REMOVED_LATELY = text(f"""
SELECT identifier FROM ({_REMOVED} ORDER BY identifier, id DESC) r
WHERE NOT EXISTS (SELECT FROM identifiers i WHERE i.identifier = r.identifier)
ORDER BY identifier
""")
_REMOVED_ONE = text(f"""
SELECT identifier, before FROM ({_REMOVED} ORDER BY identifier, id DESC) r
WHERE identifier = :identifier
""")
_BRING_BACK = text("""
INSERT INTO identifiers (identifier, customer_id, given_by, since)
VALUES (:identifier, :id, CAST(:before AS jsonb) ->> 'givenBy',
  CAST(CAST(:before AS jsonb) ->> 'since' AS timestamptz))
ON CONFLICT DO NOTHING
""")
# An e-mail without a key took its place. One with a key is newer than the removal.
_OWN_EMAIL_AGAIN = text("""
UPDATE customers c SET email = b.email, email_key = substr(:identifier, 7),
  email_at = b."emailAt", email_event = b."emailEvent"
FROM jsonb_to_record(CAST(:before AS jsonb))
  AS b (email text, "emailAt" timestamptz, "emailEvent" text)
WHERE c.id = :id AND b.email IS NOT NULL AND c.email_at IS NULL
""")
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
    before = (await connection.execute(_BEFORE, {"identifier": identifier})).scalar_one()
    await connection.execute(_TAKE_AWAY, {"identifier": identifier})
    await keep_own_email(connection, [customer_id])
    await recount(connection, [customer_id], now)
    await note(
        connection,
        actor,
        "identifier.removed",
        customer_id=customer_id,
        details={"identifier": identifier, "before": before},
    )
    await connection.execute(REASSIGNED)


async def removed_lately(connection: AsyncConnection, customer_id: int, actor: str) -> list[str]:
    """Return the identifiers that somebody took away, and can take back."""
    rows = await connection.execute(_REMOVED_LATELY, {"id": customer_id, "actor": actor})
    return list(rows.scalars())


async def restore(
    connection: AsyncConnection, customer_id: int, identifier: str, actor: str
) -> None:
    """Undo `take_away`, which the same person did lately; the caller commits.

    Raises NoSuchCustomerError, NotRemovedError, and TakenError if it means somebody else by now.
    """
    await lock_customers(connection, [customer_id])
    if not (await connection.execute(_EXISTS, {"id": customer_id})).scalar_one():
        raise NoSuchCustomerError
    names = {"id": customer_id, "actor": actor, "identifier": identifier}
    removed = (await connection.execute(_REMOVED_ONE, names)).one_or_none()
    if removed is None:
        raise NotRemovedError
    before = {**names, "before": dumps(removed.before).decode()}
    del before["actor"]
    if not (await connection.execute(_BRING_BACK, before)).rowcount:
        if identifier in {row.identifier for row in await of_customer(connection, customer_id)}:
            return
        raise TakenError(identifier, await owner_of(connection, identifier))
    await connection.execute(_OWN_EMAIL_AGAIN, before)
    await write_search_text(connection, [customer_id])
    await note(
        connection,
        actor,
        "identifier.restored",
        customer_id=customer_id,
        details={"identifier": identifier},
    )


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
