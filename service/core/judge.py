"""The contract of the stream ``orders``: `judge` reads an entry as an order event, or refuses it.

The wire format is CloudEvents 1.0, structured JSON. Code that runs after `judge` never sees an
amount that is not whole cents, a time without an offset, or text that Postgres refuses. Every
worker judges the same entry in the same way, however late.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from pydantic import ValidationError

from service.core.customer_ids import customer_number
from service.core.documents import decode
from service.core.envelope import MOST_FIELDS, Entry, payload
from service.core.identifiers import (
    customer_identifier,
    email_identifier,
    external_identifier,
    phone_identifier,
    phone_key,
)
from service.core.lenient import OTHER_STREET, UNSTORABLE, read_leniently
from service.core.order_contract import (
    TOO_MANY_CENTS,
    OrderCloudEvent,
    lacks_street,
    validated,
)
from service.core.order_event import (
    EventCustomer,
    EventKey,
    OrderEvent,
    Reason,
    Refusal,
    ShopOrder,
)
from service.core.usual_event import ReadEvent, ReadOrder, read_in_full, read_usual

AHEAD = timedelta(days=1)
"""How far a publisher's clock may run ahead of ours."""

_YEAR_2100 = 4_102_444_800_000  # Unix milliseconds
_UNSTORABLE = re.compile(rb"\\u(0000|[dD][89a-fA-F])")
"""JSON escapes that may stand for text that Postgres refuses: U+0000 or half a surrogate pair."""
_CURRENCY = re.compile(r"[A-Z]{3}", re.ASCII)


class Terms(NamedTuple):
    """What a store accepts, and where it is."""

    currency: str
    """The store's currency, as in ISO 4217: that of orders which name none."""
    max_bytes: int
    """The size of the largest entry, all its fields together."""
    country: str | None = None
    """Where phone numbers without ``+`` are from, as in ISO 3166. None: they name nobody."""


def judge(entry: Entry, terms: Terms, now: datetime) -> OrderEvent | Refusal:
    """Read one entry as an order event, or refuse it. Nothing in an entry makes this raise.

    Times may be up to a day after ``now`` or after the time in the entry's id, whichever is later.
    So a worker whose clock is behind does not refuse what other workers accept.
    """
    if entry.size > terms.max_bytes:
        return Refusal(
            Reason.TOO_LARGE,
            f"the entry has {entry.size:,} bytes, more than the {terms.max_bytes:,} allowed; "
            "publish the order without its items or attachments",
        )
    if entry.missing or len(entry.fields) > MOST_FIELDS:
        return Refusal(
            Reason.TOO_LARGE,
            f"the entry has more than {MOST_FIELDS} fields; "
            "publish the event as JSON in one field, `data`",
        )
    raw = payload(entry.fields)
    if raw is None:
        return Refusal(
            Reason.NO_DATA_FIELD,
            "the entry has no field `data`; publish with XADD orders * data '<CloudEvents JSON>'",
        )
    usual = None if _UNSTORABLE.search(raw) else read_usual(raw)
    if usual is None:
        return _judge_in_full(raw, entry, terms, now)
    return _checked(usual, entry, terms, now)


def _judge_in_full(raw: bytes, entry: Entry, terms: Terms, now: datetime) -> OrderEvent | Refusal:
    """Read JSON by the full contract, and leniently what does not fit it."""
    decoded = decode(raw)
    if isinstance(decoded, Refusal):
        return decoded
    document, raw = decoded
    try:
        try:
            event = validated(document)
        except ValidationError:
            event = validated(read_leniently(document))
        if _UNSTORABLE.search(raw):
            if fault := _unstorable(event):
                return fault
            event = validated(read_leniently(document))
        elif _has_other_street(event, raw):
            event = validated(read_leniently(document))
    except ValidationError as error:
        return _first_fault(error)
    return _checked(read_in_full(event, document.get("traceparent")), entry, terms, now)


def judge_document(
    document: Mapping[str, Any], terms: Terms, now: datetime
) -> OrderEvent | Refusal:
    """Read a decoded document as an order event, or refuse it, as `judge` does.

    Numbers with a fraction are Decimals in it, or texts.
    """
    try:
        event = _validated_as_it_is(document) or validated(read_leniently(document))
    except ValidationError as error:
        return _first_fault(error)
    read = read_in_full(event, document.get("traceparent"))
    return _unstorable(event) or _checked(read, None, terms, now)


def _validated_as_it_is(document: Mapping[str, Any]) -> OrderCloudEvent | None:
    """Return the event; None if it has to be read leniently."""
    try:
        event = validated(document)
    except ValidationError:
        return None
    customer, address = event["data"].get("customer"), event["data"].get("shippingAddress")
    if lacks_street(address):
        return None
    texts = (*(customer or {}).values(), *(address or {}).values())
    return None if UNSTORABLE.search("".join(it for it in texts if isinstance(it, str))) else event


_REWORDED = {
    "missing": (Reason.MISSING_FIELD, "is missing"),
    "string_unicode": (
        Reason.INVALID_TEXT,
        "contains half a surrogate pair, which cannot be stored",
    ),
    "dict_type": (Reason.INVALID_FIELD, "must be a JSON object"),
}
"""Our words for faults that pydantic describes in terms of Python."""


def _first_fault(error: ValidationError) -> Refusal:
    """Return a refusal for the first fault, because a publisher fixes one at a time."""
    fault = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in fault["loc"])
    if fault["loc"] == ("specversion",):
        return Refusal(Reason.UNSUPPORTED_VERSION, '`specversion` must be "1.0"')
    if fault["loc"] == ("type",) and fault["type"] != "missing":
        return Refusal(Reason.UNKNOWN_TYPE, '`type` must be "order-created" or "order-updated"')
    kind = fault["type"]
    if kind in set(Reason):
        return Refusal(Reason(kind), f"`{where}` {fault['msg']}")
    if kind in _REWORDED:
        reason, message = _REWORDED[kind]
        return Refusal(reason, f"`{where}` {message}")
    return Refusal(Reason.INVALID_FIELD, f"`{where}`: {fault['msg']}")


def _checked(
    event: ReadEvent, entry: Entry | None, terms: Terms, now: datetime
) -> OrderEvent | Refusal:
    """Apply the rules that concern several fields, the store or the clock."""
    order = event.data
    currency, rate = order.currency, None
    if currency == terms.currency:
        currency = None
    elif currency is not None:
        money = _in_other_currency(order, currency.strip().upper(), terms)
        if isinstance(money, Refusal):
            return money
        currency, rate = money
    created, updated, sent = order.date_created, order.date_updated, event.time
    horizon = now + AHEAD
    if max(created, updated or created, sent or created) > horizon:  # hardly ever
        if entry is not None:
            horizon = max(horizon, received(entry) + AHEAD)
        if fault := _in_future(event, horizon):
            return fault
    at, source = updated or sent or created, event.source or ""
    return OrderEvent(
        order_id=order.id,
        key=EventKey(order.version or 0, at, sent or at, event.id),
        profile_at=at,
        status=order.status,
        payment_status=order.payment_status,
        total_cents=order.total_amount,
        refunded_cents=order.refunded_amount or 0,
        date_created=created,
        customer=_customer(order, source, terms.country),
        currency=currency,
        exchange_rate=rate,
        traceparent=event.traceparent if isinstance(event.traceparent, str) else None,
        shop_order=ShopOrder(source, order.shop_id) if order.shop_id else None,
    )


def _in_future(event: ReadEvent, horizon: datetime) -> Refusal | None:
    """Return a refusal if one of the times lies beyond the horizon."""
    for where, moment in (
        ("time", event.time),
        ("data.dateCreated", event.data.date_created),
        ("data.dateUpdated", event.data.date_updated),
    ):
        if moment is not None and moment > horizon:
            return Refusal(
                Reason.INVALID_TIME, f"`{where}` lies more than a day in the future; check clocks"
            )
    return None


def _has_other_street(event: OrderCloudEvent, raw: bytes) -> bool:
    """Return whether the street may stand under a name that only `read_leniently` knows."""
    address = event["data"].get("shippingAddress")
    return lacks_street(address) and OTHER_STREET.search(raw) is not None


def _in_other_currency(
    order: ReadOrder, currency: str, terms: Terms
) -> tuple[str | None, Decimal | None] | Refusal:
    """Return currency and exchange rate as they are stored: both None for the store's own."""
    if currency in {"", terms.currency}:
        return None, None
    if not _CURRENCY.fullmatch(currency):
        return Refusal(
            Reason.INVALID_CURRENCY, "`data.currency` must be a code of ISO 4217, such as USD"
        )
    rate = order.exchange_rate
    if rate is not None and order.total_amount * rate >= TOO_MANY_CENTS:
        return Refusal(
            Reason.INVALID_AMOUNT,
            "`data.exchangeRate` makes 1,000,000,000,000 or more of `data.totalAmount`",
        )
    return currency, rate


def _unstorable(event: OrderCloudEvent) -> Refusal | None:
    """Return a refusal if a text cannot be stored. Called only for documents that have escapes."""
    order = event["data"]
    customer = order.get("customer") or {}
    for where, text in (
        ("id", event["id"]),
        ("source", event.get("source")),
        ("data.id", order["id"]),
        ("data.shopId", order.get("shopId")),
        ("data.customer.id", customer.get("id")),
        ("data.customer.email", customer.get("email")),
    ):
        if not isinstance(text, str):
            continue
        if (found := UNSTORABLE.search(text)) is None:
            continue
        what = "the character U+0000" if found[0] == "\x00" else "half a surrogate pair"
        return Refusal(Reason.INVALID_TEXT, f"`{where}` contains {what}, which cannot be stored")
    return None


def received(entry: Entry) -> datetime:
    """Return when Redis took the entry. The time is from its id, which a publisher may choose."""
    return datetime.fromtimestamp(min(entry.milliseconds, _YEAR_2100) / 1000, UTC)


def _customer(order: ReadOrder, source: str, country: str | None) -> EventCustomer | None:
    customer = order.customer
    if customer is None:
        return None
    email = customer.email or None
    phone = (customer.phone or "").strip() or None
    identifiers = _identifiers((customer.id or "").strip(), source, email, phone, country)
    if not identifiers:
        return None
    return EventCustomer(
        identifiers=identifiers,
        email=email,
        name=(customer.name or "").strip() or None,
        phone=phone,
        address=_address(order.shipping_address or {}),
    )


def _address(told: Mapping[str, Any]) -> dict[str, str] | None:
    """Return the parts of an address that say something; None if none does."""
    address = {
        part: value
        for part, text in told.items()
        if isinstance(text, str) and (value := text.strip())
    }
    return address or None


_NO_ID = frozenset(["", "0"])
"""Shops write these for a guest."""


def _identifiers(
    reference: str, source: str, email: str | None, phone: str | None, country: str | None
) -> tuple[str, ...]:
    """Return what names the customer, at most two identifiers, the strongest first.

    ``reference`` is the id that the event gives the customer: one of ours, or of its source.
    """
    found = []
    number = None
    if reference not in _NO_ID:
        number = customer_number(reference)
        if number is None:
            found.append(external_identifier(source, reference))
        else:
            found.append(customer_identifier(number))
    if email:
        found.append(email_identifier(email))
    elif phone and (number is not None or not found):
        # If there is no customer with this number, the phone is all that names them.
        key = phone_key(phone, country)
        if key is not None:
            found.append(phone_identifier(key))
    return tuple(found)
