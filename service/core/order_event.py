"""An order event as the service works with it, and the verdict on a stream entry."""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, NamedTuple, Self

import msgspec

from service.core.envelope import Entry


class Reason(StrEnum):
    """Why an entry was refused: stable codes, stored with the dead letter."""

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
    INVALID_CURRENCY = "invalid_currency"
    INVALID_TIME = "invalid_time"
    INVALID_EMAIL = "invalid_email"
    NOT_APPLICABLE = "not_applicable"
    """It passed the contract, but the database refused its data: a fault of this service."""
    TOO_MANY_DELIVERIES = "too_many_deliveries"
    """Every worker that took the entry died."""
    CURRENCY_MISMATCH = "currency_mismatch"
    """Another currency. Only earlier releases refused it, so a replay succeeds."""
    REFUND_EXCEEDS_TOTAL = "refund_exceeds_total"
    """A refund above the total. Only earlier releases refused it, so a replay succeeds."""


class Refusal(NamedTuple):
    """A reason code, and a sentence for the developer of the publisher."""

    reason: Reason
    message: str


class EventKey(NamedTuple):
    """The key that orders the events of one order: the greatest is the latest.

    The event id keeps keys unique.
    """

    version: int
    at: datetime
    """When the order was changed."""
    sent: datetime
    """The event's own time, which many shops write more precisely."""
    event_id: str


class EventCustomer(msgspec.Struct, frozen=True, gc=False):
    """The customer whom an event names, and their profile in it. Empty values are None."""

    identifiers: tuple[str, ...]
    """One or two of `service.core.identifiers`, in the order in which they name the customer."""
    email: str | None
    """The e-mail in its normal form."""
    name: str | None
    phone: str | None
    address: dict[str, str] | None


NAMED_REGISTERS = ("name", "phone", "address")
"""Registers of the customer whom an event names."""
EMAIL_REGISTER = "email"
"""The register of the customer whose e-mail an event has."""
REGISTERS = (*NAMED_REGISTERS, EMAIL_REGISTER)
"""The fields of `EventCustomer` that are stored as the customer's profile. Each is stored
separately: a value, and the time and id of the event that it came with. SQL that handles them is
generated from this.
"""


class OrderContent(NamedTuple):
    """What two events of the same version and times must agree on."""

    status: str
    payment_status: str | None
    total_cents: int
    refunded_cents: int
    date_created: datetime
    currency: str | None
    exchange_rate: Decimal | None


class ShopOrder(NamedTuple):
    """What a shop's own system calls an order. Some of what a shop says has nothing else."""

    source: str
    id: str


class OrderEvent(msgspec.Struct, frozen=True, gc=False):
    """One state of one order as a publisher wrote it. Times are in UTC.

    Amounts are in hundredths of the order's currency. It is made in a fifth of a named tuple's
    time, and no search for garbage looks at it.
    """

    order_id: str
    key: EventKey
    profile_at: datetime
    """The time of the profile in this event. It orders the profiles of different orders."""
    status: str
    payment_status: str | None
    total_cents: int
    refunded_cents: int
    """All that was refunded so far. It may be more than the total."""
    date_created: datetime
    customer: EventCustomer | None
    currency: str | None = None
    """The currency of the amounts, as in ISO 4217. None: the store's."""
    exchange_rate: Decimal | None = None
    """The store's currency per unit of this order's. None: unknown, or it is the store's."""
    traceparent: str | None = None
    """The publisher's trace context (W3C), as the document has it; not checked."""
    shop_order: ShopOrder | None = None

    def but(self, **changes: Any) -> Self:
        """Return a copy with these changes."""
        return msgspec.structs.replace(self, **changes)

    @property
    def content(self) -> OrderContent:
        """Return the order's state without its key."""
        return OrderContent(
            self.status,
            self.payment_status,
            self.total_cents,
            self.refunded_cents,
            self.date_created,
            self.currency,
            self.exchange_rate,
        )


class Judged(NamedTuple):
    """An entry, and the order event or refusal that `judge` made of it."""

    entry: Entry
    verdict: OrderEvent | Refusal
