"""The contract of the stream ``orders``: an entry is an order event, or is refused with a reason.

The wire format is CloudEvents 1.0 structured JSON; `judge` is the door, and nothing behind it
sees an amount that is not whole cents, a time without an offset or text that Postgres refuses.
The same entry is always judged the same way, by whichever worker and however late.
"""

import json
import re
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple, NoReturn, NotRequired

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StrictInt,
    StrictStr,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from service.core.customer_ids import customer_number
from service.core.envelope import Entry, payload

EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
AHEAD = timedelta(days=1)
"""How far a publisher's clock may run ahead of ours."""

_LATEST = 4_102_444_800_000  # the year 2100 in Unix milliseconds
_CENT = Decimal("0.01")
_WHOLE_CENTS = re.compile(r"\d{1,12}\.\d\d", re.ASCII)
"""How nearly every amount is written; read without a Decimal."""
_DECIMAL = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,9})?", re.ASCII)
_EMAIL = re.compile(r"[^\s@\x00-\x1f]+@[^\s@\x00-\x1f]+")
_UNSTORABLE = re.compile(rb"\\u(0000|[dD][89a-fA-F])")
"""JSON's way to write what Postgres refuses: U+0000 and, perhaps, half a surrogate pair."""


class Reason(StrEnum):
    """Why an entry was refused; stable codes, stored with the dead letter."""

    TOO_LARGE = "too_large"
    NO_DATA_FIELD = "no_data_field"
    INVALID_UTF8 = "invalid_utf8"
    NOT_JSON = "not_json"
    NOT_AN_OBJECT = "not_an_object"
    UNKNOWN_TYPE = "unknown_type"
    UNSUPPORTED_VERSION = "unsupported_version"
    MISSING_FIELD = "missing_field"
    INVALID_FIELD = "invalid_field"
    INVALID_TEXT = "invalid_text"
    INVALID_AMOUNT = "invalid_amount"
    REFUND_EXCEEDS_TOTAL = "refund_exceeds_total"
    INVALID_TIME = "invalid_time"
    INVALID_EMAIL = "invalid_email"
    CURRENCY_MISMATCH = "currency_mismatch"
    NOT_APPLICABLE = "not_applicable"
    """Passed the contract, but the database refused its data: a fault of ours."""
    TOO_MANY_DELIVERIES = "too_many_deliveries"
    """Every worker that took it on died with it."""


class Refusal(NamedTuple):
    """A reason code, and a sentence for the publisher's developer."""

    reason: Reason
    message: str


class EventKey(NamedTuple):
    """What orders the events of one order, greatest last; total, because ids are unique."""

    version: int
    at: datetime
    event_id: str


class EventCustomer(NamedTuple):
    """Who an event names, and what it tells of them. Empty values are None."""

    number: int | None
    """1001 for ``CUST-1001``; None when the publisher gave no id of ours."""
    email_key: str | None
    """The e-mail as it is compared: trimmed, without case."""
    name: str | None
    phone: str | None
    address: dict[str, str] | None


REGISTERS = ("name", "phone", "address")
"""The fields of `EventCustomer` that are kept as the customer's profile, each by itself: a value
with the time and id of the event that it came with. SQL that handles them is generated from this.
"""


class OrderEvent(NamedTuple):
    """One state of one order, as a publisher told it. Amounts are cents, times UTC."""

    order_id: str
    key: EventKey
    profile_at: datetime
    """When the profile values were true: the order of profiles across orders."""
    status: str
    payment_status: str | None
    total_cents: int
    refunded_cents: int
    date_created: datetime
    customer: EventCustomer | None
    traceparent: str | None = None
    """The publisher's place in a trace, as the document has it; not checked."""

    @property
    def content(self) -> tuple[object, ...]:
        """What must be equal when two events claim the same version and time."""
        return (
            self.status,
            self.payment_status,
            self.total_cents,
            self.refunded_cents,
            self.date_created,
        )


class Judged(NamedTuple):
    """An entry and what the contract makes of it."""

    entry: Entry
    verdict: OrderEvent | Refusal


def _refuse(reason: Reason, message: str) -> NoReturn:
    raise PydanticCustomError(reason.value, "{message}", {"message": message})


def _reference(value: object) -> object:
    """Take a number for what it is: an id of another system, which names nobody here."""
    return None if isinstance(value, int) and not isinstance(value, bool) else value


def _amount(value: object) -> int:
    if isinstance(value, str) and _WHOLE_CENTS.fullmatch(value):
        return int(value[:-3] + value[-2:])
    if isinstance(value, str) and len(value) <= 64 and _DECIMAL.fullmatch(value):  # noqa: PLR2004
        value = Decimal(value)
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        _refuse(
            Reason.INVALID_AMOUNT, 'must be a decimal string or a JSON number, such as "129.97"'
        )
    if value < 0:
        _refuse(Reason.INVALID_AMOUNT, "must not be negative")
    # Compared first: quantize would fail on what is far too large.
    cents = int(Decimal(value).quantize(_CENT, ROUND_HALF_UP).scaleb(2)) if value < 10**12 else None
    if cents is None or cents >= 10**14:
        _refuse(Reason.INVALID_AMOUNT, "must be less than 1,000,000,000,000")
    return cents


def _instant(value: object) -> datetime:
    if not isinstance(value, str) or not value.isprintable():
        _refuse(Reason.INVALID_TIME, "must be a string in ISO 8601, such as 2026-11-22T10:00:00Z")
    return _moment(value)


@lru_cache(64)  # the times of one event are often the same
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
            moment = moment.replace(tzinfo=UTC)  # at either end of time, a few hours do not matter
    if moment < EARLIEST:
        _refuse(Reason.INVALID_TIME, "lies before 1990")
    return moment


def _email(value: str) -> str:
    value = value.strip()
    if value and "\x00" not in value and not _EMAIL.fullmatch(value):  # NUL is a fault of its own
        _refuse(Reason.INVALID_EMAIL, "is not an e-mail address; leave it out when there is none")
    return value


_Id = Annotated[StrictStr, Field(min_length=1, max_length=200)]
_Short = Annotated[StrictStr, Field(max_length=1000)]
_Email = Annotated[StrictStr, Field(max_length=320), AfterValidator(_email)]
_Amount = Annotated[int, BeforeValidator(_amount)]
_Instant = Annotated[datetime, BeforeValidator(_instant)]


class Address(TypedDict, total=False):
    """A postal address; every part may be missing."""

    street: _Short | None
    city: _Short | None
    state: _Short | None
    zip: _Short | None
    country: _Short | None


class CustomerData(TypedDict, total=False):
    """Who placed the order. Without an id of ours and an e-mail it names nobody."""

    id: Annotated[_Short | None, BeforeValidator(_reference)]
    email: _Email | None
    name: _Short | None
    phone: _Short | None


class OrderData(TypedDict):
    """The whole order, in both event types."""

    id: _Id
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
    shippingAddress: NotRequired[Address | None]
    dateCreated: _Instant
    dateUpdated: NotRequired[_Instant | None]


class OrderCloudEvent(TypedDict):
    """CloudEvents 1.0, structured mode."""

    specversion: NotRequired[Literal["1.0"]]
    id: _Id
    type: Literal["order-created", "order-updated"]
    time: NotRequired[_Instant | None]
    data: OrderData


ORDER_EVENT = TypeAdapter(OrderCloudEvent)
"""Typed dictionaries: half the time of model instances, of which there would be four an event."""


def judge(
    entry: Entry, *, store_currency: str, max_bytes: int, now: datetime
) -> OrderEvent | Refusal:
    """Read one entry. Never raises for what a publisher may have written.

    ``now`` bounds the future, together with the time in the entry's own id, so that a worker
    whose clock is behind does not refuse what its neighbours accept.
    """
    if entry.size > max_bytes:
        return Refusal(
            Reason.TOO_LARGE,
            f"the entry has {entry.size:,} bytes, more than the {max_bytes:,} allowed; "
            "publish the order without its items or attachments",
        )
    found = _document(entry)
    if isinstance(found, Refusal):
        return found
    document, raw = found
    try:
        event = ORDER_EVENT.validate_python(document)
    except ValidationError as error:
        return _first_fault(error)
    if _UNSTORABLE.search(raw) and (fault := _unstorable(event)):
        return fault
    return _checked(event, entry, document.get("traceparent"), store_currency, now)


def _document(entry: Entry) -> tuple[dict[str, Any], bytes] | Refusal:
    """Decode the document; gives the bytes that it was decoded from, too."""
    raw = payload(entry.fields)
    if raw is None:
        return Refusal(
            Reason.NO_DATA_FIELD,
            "the entry has no field `data`; publish with XADD orders * data '<CloudEvents JSON>'",
        )
    try:
        document = _loads(raw)
        # What FastStream wrote before its binary envelope: the JSON text within JSON.
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


# Decimal keeps every digit that the publisher wrote.
_DECODER = json.JSONDecoder(parse_float=Decimal, parse_constant=_no_constant)


def _loads(raw: bytes) -> Any:
    return _DECODER.decode(raw.decode().removeprefix("\ufeff"))  # a byte order mark is forgiven


_PYDANTIC = {
    "missing": (Reason.MISSING_FIELD, "is missing"),
    "string_unicode": (
        Reason.INVALID_TEXT,
        "contains half a surrogate pair, which cannot be stored",
    ),
    "dict_type": (Reason.INVALID_FIELD, "must be a JSON object"),
}
"""What its validator says in words of its own language."""


def _first_fault(error: ValidationError) -> Refusal:
    """Name the first fault; a publisher mends one at a time."""
    fault = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in fault["loc"])
    if fault["loc"] == ("specversion",):
        return Refusal(Reason.UNSUPPORTED_VERSION, '`specversion` must be "1.0"')
    if fault["loc"] == ("type",) and fault["type"] != "missing":
        return Refusal(Reason.UNKNOWN_TYPE, '`type` must be "order-created" or "order-updated"')
    kind = fault["type"]
    if kind in set(Reason):
        return Refusal(Reason(kind), f"`{where}` {fault['msg']}")
    if kind in _PYDANTIC:
        reason, message = _PYDANTIC[kind]
        return Refusal(reason, f"`{where}` {message}")
    return Refusal(Reason.INVALID_FIELD, f"`{where}`: {fault['msg']}")


def _checked(
    event: OrderCloudEvent, entry: Entry, traceparent: object, store_currency: str, now: datetime
) -> OrderEvent | Refusal:
    """Apply the rules that concern several fields, or the world."""
    order = event["data"]
    currency = order.get("currency")
    if currency is not None and currency.upper() != store_currency:
        return Refusal(
            Reason.CURRENCY_MISMATCH,
            f"`data.currency` is {currency[:20]!r}, but this store adds up {store_currency} only",
        )
    total, refunded = order["totalAmount"], order.get("refundedAmount") or 0
    if refunded > total:
        return Refusal(
            Reason.REFUND_EXCEEDS_TOTAL, "`data.refundedAmount` exceeds `data.totalAmount`"
        )
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
        key=EventKey(order.get("version") or 0, at, event["id"]),
        profile_at=at,
        status=order["status"],
        payment_status=order.get("paymentStatus"),
        total_cents=total,
        refunded_cents=refunded,
        date_created=created,
        customer=_customer(order),
        traceparent=traceparent if isinstance(traceparent, str) else None,
    )


def _unstorable(event: OrderCloudEvent) -> Refusal | None:
    """Find text that Postgres refuses; looked for only where the document has such an escape."""
    order = event["data"]
    texts: list[tuple[str, object]] = [("id", event["id"]), ("data.id", order["id"])]
    for part, values in (
        ("customer", order.get("customer")),
        ("shippingAddress", order.get("shippingAddress")),
    ):
        texts += [(f"data.{part}.{name}", text) for name, text in (values or {}).items()]
    for where, text in texts:
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
    """When Redis took the entry, as far as a publisher's own id allows to say."""
    return datetime.fromtimestamp(min(entry.milliseconds, _LATEST) / 1000, UTC)


def _customer(order: OrderData) -> EventCustomer | None:
    given = order.get("customer")
    if given is None:
        return None
    reference = given.get("id")
    number = customer_number(reference) if reference else None
    email = given.get("email") or None
    if number is None and email is None:
        return None
    address = {
        part: value
        for part, text in (order.get("shippingAddress") or {}).items()
        if isinstance(text, str) and (value := text.strip())
    }
    return EventCustomer(
        number=number,
        email_key=email and email.lower(),
        name=(given.get("name") or "").strip() or None,
        phone=(given.get("phone") or "").strip() or None,
        address=address or None,
    )
