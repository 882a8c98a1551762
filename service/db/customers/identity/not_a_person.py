"""Mark an identifier as no person: a marketplace's relay address, or the till.

Orders that it named belong to nobody, and later ones, too, until the mark is taken away. If an
order has another identifier that means somebody, it belongs to them.
"""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.customer_ids import customer_ref
from service.core.identifiers import IdentifierKind, kind_of
from service.core.removal_event import RemovalReason
from service.db.accounts.audit import note
from service.db.customers import removals
from service.db.customers.identity import pairs
from service.db.customers.identity.assignment import create_empty, recount
from service.db.customers.identity.claims import claim, owner_of
from service.db.customers.identity.naming import OWNER_OF_ORDER, say_what_named
from service.db.customers.identity.own_email import keep_own_email
from service.db.customers.identity.pairs import put_together
from service.db.customers.identity.split import REASSIGNED
from service.db.customers.tags.tagging import forget_tags
from service.db.locks import lock_customers
from service.db.segments import assign


class OwnerChangedError(Exception):
    """The identifier went to another customer meanwhile. Try again."""


class NotMarkedError(Exception):
    """The identifier is not marked as no person."""


class CannotMarkError(Exception):
    """The identifier cannot be marked; ``args[0]`` says why."""


_MARK = text("""
INSERT INTO identifiers (identifier, given_by) VALUES (:identifier, :actor)
ON CONFLICT (identifier) DO UPDATE
  SET customer_id = NULL, given_by = excluded.given_by, since = now()
""")
_UNMARK = text("""
DELETE FROM identifiers WHERE identifier = :identifier AND customer_id IS NULL
""")
_MARKED = text("""
SELECT identifier, given_by, since FROM identifiers WHERE customer_id IS NULL ORDER BY since DESC
""")
# The customers whom these orders may belong to by their other identifier.
_OTHERS = text("""
SELECT DISTINCT i.customer_id FROM orders o JOIN identifiers i
  ON i.identifier IN (o.identifier, o.other_identifier)
WHERE o.customer_id = :id AND :identifier IN (o.identifier, o.other_identifier)
  AND i.customer_id IS NOT NULL
""")
_LEAVE = text(f"""
UPDATE orders o SET customer_id = {OWNER_OF_ORDER}
WHERE customer_id = :id AND :identifier IN (o.identifier, o.other_identifier)
""")
_IS_EMPTY = text("""
SELECT c.notes = '' AND coalesce(c.name_at < 'infinity', true)
  AND NOT EXISTS (SELECT FROM identifiers WHERE customer_id = :id)
  AND NOT EXISTS (SELECT FROM orders WHERE customer_id = :id)
  AND NOT EXISTS (SELECT FROM interactions WHERE customer_id = :id)
  AND NOT EXISTS (SELECT FROM customer_fields WHERE customer_id = :id)
FROM customers c WHERE id = :id
""")
# An order whose person was erased says by what it was named only if an event did that later. This
# reads all orders: nobody takes a mark away often, and an index would cost every order.
_NAMED = "FROM orders o WHERE :identifier IN (o.identifier, o.other_identifier)"
_CONCERNED = text(f"SELECT DISTINCT o.customer_id {_NAMED}")
_EARLIEST = text(f"SELECT min(o.date_created) {_NAMED}")
_TAKE = text(f"""
UPDATE orders SET customer_id = :id
WHERE id IN (SELECT o.id {_NAMED} AND {OWNER_OF_ORDER} = :id ORDER BY o.id)
""")


async def marked(connection: AsyncConnection) -> Sequence[tuple[str, str, object]]:
    """Return the identifiers that are no person, with who marked them and when."""
    return [tuple(row) for row in await connection.execute(_MARKED)]


async def mark(connection: AsyncConnection, identifier: str, actor: str) -> int | None:
    """Mark an identifier as no person; the caller commits.

    Return the number of the customer who is removed, because nothing else was known of them; None
    if nobody is. Raises CannotMarkError, OwnerChangedError.
    """
    if kind_of(identifier) is IdentifierKind.CUSTOMER:
        raise CannotMarkError("the id of a customer cannot be marked; delete the customer instead")
    names = {"identifier": identifier, "actor": actor}
    owner = await owner_of(connection, identifier)
    if owner is None:
        await connection.execute(_MARK, names)
        await note(connection, actor, "identifier.marked", details={"identifier": identifier})
        await connection.execute(REASSIGNED)
        return None
    of_owner = {"id": owner, "identifier": identifier}
    concerned = set((await connection.execute(_OTHERS, of_owner)).scalars()) | {owner}
    now = await lock_customers(connection, sorted(concerned))
    if await owner_of(connection, identifier) != owner or not concerned.issuperset(
        (await connection.execute(_OTHERS, of_owner)).scalars()
    ):
        raise OwnerChangedError
    await say_what_named(connection, [owner])
    await connection.execute(_MARK, names)
    await connection.execute(_LEAVE, of_owner)
    await keep_own_email(connection, [owner])
    gone = bool((await connection.execute(_IS_EMPTY, {"id": owner})).scalar_one())
    if gone:
        await forget_tags(connection, owner)
        await assign.forget(connection, owner)
        await pairs.forget(connection, owner)
        await removals.add(connection, [owner], RemovalReason.NOT_A_PERSON)
        concerned.remove(owner)
    await recount(connection, sorted(concerned), now)
    await note(
        connection,
        actor,
        "identifier.marked",
        customer_id=owner,
        details={"identifier": identifier, **({"gone": customer_ref(owner)} if gone else {})},
    )
    await connection.execute(REASSIGNED)
    return owner if gone else None


async def unmark(connection: AsyncConnection, identifier: str, actor: str) -> int | None:
    """Take the mark away; the caller commits. Return the customer who has it from now on.

    An order with two identifiers says that both mean one person, so it goes to the owner of such an
    order. Otherwise a new customer gets it, with its orders. None if no order names it. Raises
    NotMarkedError, OwnerChangedError.
    """
    names = {"identifier": identifier}
    concerned = set((await connection.execute(_CONCERNED, names)).scalars())
    owners = sorted(concerned - {None})
    now = await lock_customers(connection, owners)
    if not (await connection.execute(_UNMARK, names)).rowcount:
        raise NotMarkedError
    if not concerned.issuperset((await connection.execute(_CONCERNED, names)).scalars()):
        raise OwnerChangedError
    owner = owners[0] if owners else None
    if concerned and owner is None:
        earliest = (await connection.execute(_EARLIEST, names)).scalar_one()
        owner = await create_empty(connection, earliest)
    if owner is not None:
        await claim(connection, owner, identifier, actor)
        await connection.execute(_TAKE, {**names, "id": owner})
        await keep_own_email(connection, [owner])
        await put_together(connection, [(owner, other) for other in owners if other != owner])
        await recount(connection, sorted({owner, *owners}), now)
    await note(connection, actor, "identifier.unmarked", customer_id=owner, details=names)
    await connection.execute(REASSIGNED)
    return owner
