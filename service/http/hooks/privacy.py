"""Shopify's mandatory topics about privacy: erase a customer, show their data, erase a shop."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.hooks import DeliveryOutcome, ShopRequest
from service.core.identifiers import (
    email_identifier,
    email_key,
    external_identifier,
    phone_identifier,
    phone_key,
)
from service.db.customers import shop_requests
from service.db.customers.editing import CustomerNotFoundError
from service.db.customers.shop_requests import Asked
from service.db.engine import in_transaction
from service.http.hooks.orders import keep_unread
from service.http.hooks.platform import Delivery, Result, too_old
from service.http.state import WebState
from service.transfer.formats.values import part, text

_NOT_ASKED = (
    "The body is not one of this topic, or it is about another shop. Nothing was erased and "
    "nothing was asked. Somebody may have changed the topic on the way: the signature does not "
    "cover it."
)


async def erase_customer(state: WebState, delivery: Delivery) -> Result:
    """Erase a customer, as the shop asks by ``customers/redact``."""
    if refused := too_old(delivery):
        return refused
    if not _is_of_topic(delivery, "orders_to_redact"):
        return await keep_unread(state, delivery, _NOT_ASKED)
    identifiers = _identifiers(state, delivery)
    await in_transaction(
        state.engine,
        shop_requests.erase_customer,
        _asked(delivery),
        identifiers,
        retry_on=(CustomerNotFoundError,),
    )
    return Result(DeliveryOutcome.APPLIED)


async def show_data(state: WebState, delivery: Delivery) -> Result:
    """Ask the shopkeeper to give a customer their data, as ``customers/data_request`` asks."""
    if not _is_of_topic(delivery, "data_request"):
        return await keep_unread(state, delivery, _NOT_ASKED)
    identifiers = _identifiers(state, delivery)

    async def ask(connection: AsyncConnection) -> None:
        await shop_requests.ask(connection, _asked(delivery), ShopRequest.DATA, identifiers)

    await in_transaction(state.engine, ask)
    return Result(DeliveryOutcome.APPLIED)


async def erase_shop(state: WebState, delivery: Delivery) -> Result:
    """Ask the shopkeeper whether to erase a shop's customers, as ``shop/redact`` asks."""
    if refused := too_old(delivery):
        return refused
    if not _is_of_topic(delivery, "shop_id") or part(delivery.document, "customer"):
        return await keep_unread(state, delivery, _NOT_ASKED)
    await in_transaction(state.engine, shop_requests.ask, _asked(delivery), ShopRequest.ERASE_SHOP)
    return Result(DeliveryOutcome.APPLIED)


def _is_of_topic(delivery: Delivery, sign: str) -> bool:
    """Return whether the signed body itself says what is asked, and about which shop."""
    document: Any = delivery.document
    return (
        isinstance(document, dict)
        and sign in document
        and text(document.get("shop_domain")).lower() == delivery.hook.domain
    )


def _asked(delivery: Delivery) -> Asked:
    hook = delivery.hook
    return Asked(hook.platform, hook.domain, delivery.digest, delivery.actor)


def _identifiers(state: WebState, delivery: Delivery) -> list[str]:
    """Return what names the customer of a request: number, e-mail and phone, as far as told."""
    customer = part(delivery.document, "customer")
    id_, email = text(customer.get("id")), email_key(text(customer.get("email")))
    phone = phone_key(text(customer.get("phone")), state.config.terms.country)
    return [
        *([external_identifier(delivery.hook.domain, id_)] if id_ else []),
        *([email_identifier(email)] if email else []),
        *([phone_identifier(phone)] if phone else []),
    ]
