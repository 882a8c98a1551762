"""What webhooks say about customers: facts of a profile, and that two customers are one."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.hooks import DeliveryOutcome
from service.core.identifiers import external_identifier
from service.db.customers.identity import by_hand
from service.db.customers.identity.by_hand import NoSuchCustomerError
from service.db.customers.identity.claims import TakenError, owner_of
from service.db.customers.identity.pairs import put_together
from service.db.engine import in_transaction
from service.http.hooks.orders import keep_unread
from service.http.hooks.platform import Delivery, Handler, Result, moment
from service.http.state import WebState
from service.transfer.formats.format import Format, Reading
from service.transfer.lines import LineFault
from service.transfer.told_customer import write_told_customer

Times = Callable[[Mapping[str, Any]], Mapping[str, str]]


def writes_customer(
    format_: Format, changed_at: str = "", consent_times: Times = lambda _: {}
) -> Handler:
    """Return the handler of a topic whose body is a customer of this format.

    ``changed_at`` is the field that says when it was changed, in GMT, if no header says it.
    """

    async def write(state: WebState, delivery: Delivery) -> Result:
        values = delivery.document
        if not isinstance(values, dict):
            return await keep_unread(state, delivery)
        country = state.config.terms.country
        cells = format_.read(values, Reading(UTC, country, delivery.hook.domain))
        assert isinstance(cells, Mapping)  # noqa: S101 - formats of customers return them
        at = _changed(values, changed_at, delivery)
        times = {
            column: given
            for column, written in consent_times(values).items()
            if (given := moment(written))
        }

        async def apply(connection: AsyncConnection) -> LineFault | None:
            return await write_told_customer(
                connection, cells, at, times, actor=delivery.actor, country=country
            )

        fault = await in_transaction(state.engine, apply, retry_on=(IntegrityError,))
        # Nobody without an e-mail, a number or a phone; somebody who was erased; no person.
        return Result(DeliveryOutcome.IGNORED if fault else DeliveryOutcome.APPLIED)

    return write


def _changed(values: Mapping[str, Any], field: str, delivery: Delivery) -> datetime:
    written = values.get(field)
    told = moment(f"{written}Z") if isinstance(written, str) else None
    return min(told or delivery.at, delivery.received_at)


async def merge_customers(state: WebState, delivery: Delivery) -> Result:
    """Make two customers one, as the shop did: the one that it deleted, and the one that it kept.

    Staff who have split them know better: then nothing happens.
    """
    document = delivery.document
    if not isinstance(document, dict):
        return await keep_unread(state, delivery)
    if document.get("status") != "completed":
        return Result(DeliveryOutcome.IGNORED)
    kept, gone = (
        _external(delivery, document.get(f"admin_graphql_api_customer_{which}_id"))
        for which in ("kept", "deleted")
    )
    if kept is None or gone is None:
        return await keep_unread(state, delivery)

    async def merge(connection: AsyncConnection) -> bool:
        one, other = await owner_of(connection, kept), await owner_of(connection, gone)
        if one is not None and other is not None:
            if one != other:
                await put_together(connection, [(one, other)])
        elif one is not None:
            await by_hand.give(connection, one, gone, delivery.actor)
        elif other is not None:
            await by_hand.give(connection, other, kept, delivery.actor)
        return not (one is None and other is None)

    try:
        known = await in_transaction(state.engine, merge, retry_on=(NoSuchCustomerError,))
    except TakenError:  # staff marked one of them as no person
        known = False
    return Result(DeliveryOutcome.APPLIED if known else DeliveryOutcome.IGNORED)


def _external(delivery: Delivery, gid: object) -> str | None:
    """Return the identifier of ``gid://shopify/Customer/1``. None if it is none."""
    id_ = gid.rpartition("/")[2] if isinstance(gid, str) else ""
    return external_identifier(delivery.hook.domain, id_) if id_.isdecimal() else None
