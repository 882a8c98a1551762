"""The contract of the stream ``orders``: `judge` reads an entry as an order event, or refuses it.

The wire format is CloudEvents 1.0, structured JSON. Code that runs after `judge` never sees an
amount that is not whole cents, a time without an offset, or text that Postgres refuses. Every
worker judges the same entry in the same way, however late.
"""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple, NoReturn, NotRequired

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainValidator,
    StrictInt,
    StrictStr,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from service.core.customer_ids import customer_number
from service.core.envelope import MOST_FIELDS, Entry, payload
from service.core.identifiers import (
    LONGEST_EMAIL,
    customer_identifier,
    email_identifier,
    email_key,
    external_identifier,
    phone_identifier,
    phone_key,
    visible,
)
from service.core.lenient import LONGEST_TEXT, OTHER_STREET, as_text, read_leniently
from service.core.order_event import EventCustomer, EventKey, OrderEvent, Reason, Refusal

EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
AHEAD = timedelta(days=1)
"""How far a publisher's clock may run ahead of ours."""

_YEAR_2100 = 4_102_444_800_000  # Unix milliseconds
_CENT = Decimal("0.01")
_TOO_MANY_CENTS = 10**14
_WHOLE_CENTS = re.compile(r"\d{1,12}\.\d\d", re.ASCII)
"""The form of nearly every amount. It is read without a Decimal, which is faster."""
_DECIMAL = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,9})?", re.ASCII)
_UNSTORABLE = re.compile(rb"\\u(0000|[dD][89a-fA-F])")
"""JSON escapes that may stand for text that Postgres refuses: U+0000 or half a surrogate pair."""
_CURRENCY = re.compile(r"[A-Z]{3}", re.ASCII)
_RATE_PLACES = Decimal("1E-10")
"""Places of an exchange rate that are kept."""


class Terms(NamedTuple):
    """What a store accepts, and where it is."""

    currency: str
    """The store's currency, as in ISO 4217: that of orders which name none."""
    max_bytes: int
    """The size of the largest entry, all its fields together."""
    country: str | None = None
    """Where phone numbers without ``+`` are from, as in ISO 3166. None: they name nobody."""


def _refuse(reason: Reason, message: str) -> NoReturn:
    raise PydanticCustomError(reason.value, "{message}", {"message": message})


def _decimal(value: object) -> Decimal | None:
    """Return a decimal string or a JSON number as a decimal; None for anything else."""
    if isinstance(value, str) and len(value) <= 64 and _DECIMAL.fullmatch(value):  # noqa: PLR2004
        return Decimal(value)
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    return Decimal(value)


def _amount(written: object) -> int:
    if isinstance(written, str) and _WHOLE_CENTS.fullmatch(written):
        return int(written[:-3] + written[-2:])
    value = _decimal(written)
    if value is None:
        _refuse(
            Reason.INVALID_AMOUNT, 'must be a decimal string or a JSON number, such as "129.97"'
        )
    if value < 0:
        _refuse(Reason.INVALID_AMOUNT, "must not be negative")
    # Compare first: quantize fails on numbers that are far too large.
    cents = int(value.quantize(_CENT, ROUND_HALF_UP).scaleb(2)) if value < 10**12 else None
    if cents is None or cents >= _TOO_MANY_CENTS:
        _refuse(Reason.INVALID_AMOUNT, "must be less than 1,000,000,000,000")
    return cents


def _rate(written: object) -> Decimal | None:
    if written is None or written == "":
        return None
    value = _decimal(written)
    if value is None or not _RATE_PLACES <= value < 10**12:
        _refuse(
            Reason.INVALID_AMOUNT,
            'must be a positive decimal, such as "1.0853": the store\'s currency per unit of the'
            " order's",
        )
    return value.quantize(_RATE_PLACES, ROUND_HALF_UP).normalize()


def _instant(value: object) -> datetime:
    if not isinstance(value, str) or not value.isprintable():
        _refuse(Reason.INVALID_TIME, "must be a string in ISO 8601, such as 2026-11-22T10:00:00Z")
    return _moment(value)


@lru_cache(64)  # an event often has the same time in several fields
def _moment(value: str) -> datetime:
    try:
        moment = datetime.fromisoformat(value.upper())
    except ValueError:
        _refuse(Reason.INVALID_TIME, "is not ISO 8601; write it like 2026-11-22T10:00:00Z")
    if moment.tzinfo is None:
        _refuse(Reason.INVALID_TIME, "has no offset; end it with Z or with one such as +01:00")
    if moment.tzinfo is not UTC:
        try:
            moment = moment.astimezone(UTC)
        except OverflowError:
            moment = moment.replace(tzinfo=UTC)  # in the year 1 or 9999: hours do not matter
    if moment < EARLIEST:
        _refuse(Reason.INVALID_TIME, "lies before 1990")
    return moment


def _email(value: str) -> str:
    key = email_key(value)
    if key is not None:
        return key
    if "\x00" in value:
        return value  # refused later, with a reason of its own
    if visible(value):
        _refuse(Reason.INVALID_EMAIL, "is not an e-mail address; leave it out when there is none")
    return ""


_Id = Annotated[StrictStr, Field(min_length=1, max_length=200)]
_OrderId = Annotated[
    StrictStr, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)
]
_Text = Annotated[StrictStr, Field(max_length=LONGEST_TEXT)]
_Reference = Annotated[
    StrictStr,
    Field(max_length=200),
    BeforeValidator(as_text, json_schema_input_type=StrictStr | StrictInt),
]
"""With its source it is a key, and an index holds keys of up to 2,704 bytes."""
_Email = Annotated[StrictStr, Field(max_length=LONGEST_EMAIL), AfterValidator(_email)]
_Amount = Annotated[int, BeforeValidator(_amount)]
_Instant = Annotated[datetime, BeforeValidator(_instant)]


class Address(TypedDict, total=False):
    """A postal address. Every part may be missing."""

    street: _Text | None
    city: _Text | None
    state: _Text | None
    zip: _Text | None
    country: _Text | None


class CustomerData(TypedDict, total=False):
    """The customer of the order. They are named by id and e-mail; without both, by phone.

    ``id`` is what the source calls the customer, or one of ours (``CUST-1001``); 0 is a guest.
    ``email`` is the customer's own address, not a contact of this order.
    """

    id: _Reference | None
    email: _Email | None
    name: _Text | None
    phone: _Text | None


class OrderData(TypedDict):
    """The whole order. Both event types carry it.

    ``refundedAmount`` is all that was refunded so far. ``exchangeRate`` is the store's currency per
    unit of ``currency``. Statuses are read without regard to capitals; ``authorized`` means pending
    and ``voided`` means failed.
    """

    id: _OrderId
    version: NotRequired[Annotated[StrictInt, Field(ge=0, lt=2**63)] | None]
    customer: NotRequired[CustomerData | None]
    status: Literal[
        "pending",
        "processing",
        "shipped",
        "delivered",
        "cancelled",
        "refunded",
        "on_hold",
        "backordered",
        "completed",
    ]
    paymentStatus: NotRequired[
        Literal["pending", "paid", "failed", "refunded", "partially_refunded"] | None
    ]
    totalAmount: _Amount
    refundedAmount: NotRequired[_Amount | None]
    currency: NotRequired[StrictStr | None]
    exchangeRate: NotRequired[
        Annotated[
            Decimal | None,
            PlainValidator(_rate, json_schema_input_type=StrictStr | StrictInt | float | None),
        ]
    ]
    shippingAddress: NotRequired[Address | None]
    dateCreated: _Instant
    dateUpdated: NotRequired[_Instant | None]


class OrderCloudEvent(TypedDict):
    """CloudEvents 1.0, structured mode."""

    specversion: NotRequired[Literal["1.0"]]
    id: _Id
    source: NotRequired[Annotated[StrictStr, Field(max_length=200)] | None]
    type: Literal["order-created", "order-updated"]
    time: NotRequired[_Instant | None]
    data: OrderData


ORDER_EVENT = TypeAdapter(OrderCloudEvent)
"""Typed dictionaries take half the time of models, which would be four instances an event."""
_validated: Callable[[Any], OrderCloudEvent] = ORDER_EVENT.validator.validate_python
"""The same validation without the adapter's own options, which take a tenth of its time."""


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
    decoded = _document(entry)
    if isinstance(decoded, Refusal):
        return decoded
    document, raw = decoded
    try:
        try:
            event = _validated(document)
        except ValidationError:
            event = _validated(read_leniently(document))
        if _UNSTORABLE.search(raw):
            if fault := _unstorable(event):
                return fault
            event = _validated(read_leniently(document))
        elif _has_other_street(event, raw):
            event = _validated(read_leniently(document))
    except ValidationError as error:
        return _first_fault(error)
    return _checked(event, entry, document.get("traceparent"), terms, now)


def _document(entry: Entry) -> tuple[dict[str, Any], bytes] | Refusal:
    """Return the document of an entry and the bytes that it was decoded from, or a refusal."""
    raw = payload(entry.fields)
    if raw is None:
        return Refusal(
            Reason.NO_DATA_FIELD,
            "the entry has no field `data`; publish with XADD orders * data '<CloudEvents JSON>'",
        )
    try:
        document = _loads(raw)
        # FastStream wrote JSON text within JSON before it had its binary envelope.
        if isinstance(document, dict) and "headers" in document:
            inner = document.get("data")
            if isinstance(inner, str):
                raw = inner.encode()
                document = _loads(raw)
    except UnicodeDecodeError as error:
        return Refusal(
            Reason.INVALID_UTF8, f"byte {error.start} of the document is not UTF-8: {error.reason}"
        )
    except RecursionError:
        return Refusal(Reason.NOT_JSON, "the document is nested too deeply to be read")
    except (ValueError, ArithmeticError) as error:
        return Refusal(Reason.NOT_JSON, f"the document is not JSON: {error}")
    if not isinstance(document, dict):
        return Refusal(
            Reason.NOT_AN_OBJECT,
            "the document is JSON, but not an object with `id`, `type` and `data`",
        )
    return document, raw


def _no_constant(name: str) -> NoReturn:
    msg = f"{name} is not a JSON number"
    raise ValueError(msg)


# A Decimal keeps every digit that the publisher wrote; a float would not.
_DECODER = json.JSONDecoder(parse_float=Decimal, parse_constant=_no_constant)


def _loads(raw: bytes) -> Any:
    return _DECODER.decode(raw.decode().removeprefix("\ufeff"))  # accept a byte order mark


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
    event: OrderCloudEvent, entry: Entry, traceparent: object, terms: Terms, now: datetime
) -> OrderEvent | Refusal:
    """Apply the rules that concern several fields, the store or the clock."""
    order = event["data"]
    currency, rate = order.get("currency"), None
    if currency == terms.currency:
        currency = None
    elif currency is not None:
        money = _in_other_currency(order, currency.strip().upper(), terms)
        if isinstance(money, Refusal):
            return money
        currency, rate = money
    created, updated, sent = order["dateCreated"], order.get("dateUpdated"), event.get("time")
    horizon = now + AHEAD
    for where, moment in (
        ("time", sent),
        ("data.dateCreated", created),
        ("data.dateUpdated", updated),
    ):
        if moment is not None and moment > horizon and moment > _received(entry) + AHEAD:
            return Refusal(
                Reason.INVALID_TIME, f"`{where}` lies more than a day in the future; check clocks"
            )
    at = updated or sent or created
    return OrderEvent(
        order_id=order["id"],
        key=EventKey(order.get("version") or 0, at, sent or at, event["id"]),
        profile_at=at,
        status=order["status"],
        payment_status=order.get("paymentStatus"),
        total_cents=order["totalAmount"],
        refunded_cents=order.get("refundedAmount") or 0,
        date_created=created,
        customer=_customer(order, event.get("source") or "", terms.country),
        currency=currency,
        exchange_rate=rate,
        traceparent=traceparent if isinstance(traceparent, str) else None,
    )


def _has_other_street(event: OrderCloudEvent, raw: bytes) -> bool:
    """Return whether the street may stand under a name that only `read_leniently` knows."""
    address = event["data"].get("shippingAddress")
    return not (address is None or address.get("street")) and OTHER_STREET.search(raw) is not None


def _in_other_currency(
    order: OrderData, currency: str, terms: Terms
) -> tuple[str | None, Decimal | None] | Refusal:
    """Return currency and exchange rate as they are stored: both None for the store's own."""
    if currency in {"", terms.currency}:
        return None, None
    if not _CURRENCY.fullmatch(currency):
        return Refusal(
            Reason.INVALID_CURRENCY, "`data.currency` must be a code of ISO 4217, such as USD"
        )
    rate = order.get("exchangeRate")
    if rate is not None and order["totalAmount"] * rate >= _TOO_MANY_CENTS:
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
        ("data.customer.id", customer.get("id")),
        ("data.customer.email", customer.get("email")),
    ):
        if not isinstance(text, str):
            continue
        if "\x00" in text:
            what = "the character U+0000"
        elif any("\ud800" <= character <= "\udfff" for character in text):
            what = "half a surrogate pair"
        else:
            continue
        return Refusal(Reason.INVALID_TEXT, f"`{where}` contains {what}, which cannot be stored")
    return None


def _received(entry: Entry) -> datetime:
    """Return when Redis took the entry. The time is from its id, which a publisher may choose."""
    return datetime.fromtimestamp(min(entry.milliseconds, _YEAR_2100) / 1000, UTC)


def _customer(order: OrderData, source: str, country: str | None) -> EventCustomer | None:
    customer = order.get("customer")
    if customer is None:
        return None
    email = customer.get("email") or None
    phone = (customer.get("phone") or "").strip() or None
    identifiers = _identifiers((customer.get("id") or "").strip(), source, email, phone, country)
    if not identifiers:
        return None
    return EventCustomer(
        identifiers=identifiers,
        email=email,
        name=(customer.get("name") or "").strip() or None,
        phone=phone,
        address=_address(order.get("shippingAddress") or {}),
    )


def _address(told: Address) -> dict[str, str] | None:
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
