"""The JSON of a customer in requests and in answers."""

from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    ConfigDict,
    Field,
    StrictFloat,
    StrictInt,
    StrictStr,
)
from pydantic.alias_generators import to_camel

from service.core.customer_ids import customer_ref
from service.core.identifiers import (
    IdentifierKind,
    kind_of,
    source_and_id,
    value_of,
    written_email,
)
from service.core.own_fields import LONGEST_KEY, LONGEST_TEXT, MOST_FIELDS, Value
from service.core.rfm import RfmGroup
from service.core.segment_rules import Segment
from service.db.customers.customer_row import CustomerRow
from service.db.customers.editing import HoldEdit
from service.db.customers.identity.claims import IdentifierRow
from service.http.api.models import Camel, Collection, LongText, NotBlank, ShortText, Storable

NOT_AN_EMAIL = "must be an address such as jane@example.com"


def _email(value: str) -> str:
    written = written_email(value)
    # Events may have an e-mail such as till@shop. A person who types one has left something out.
    if written is None or "." not in written.partition("@")[2]:
        raise ValueError(NOT_AN_EMAIL)
    return written


Name = Annotated[ShortText, NotBlank]
Email = Annotated[Storable, AfterValidator(_email), Field(max_length=320)]


FieldKey = Annotated[str, Field(max_length=LONGEST_KEY)]
FieldValue = Annotated[StrictStr, Field(max_length=4 * LONGEST_TEXT)] | StrictInt | StrictFloat


class Address(Camel):
    """A postal address; every part may be missing."""

    street: ShortText | None = None
    city: ShortText | None = None
    state: ShortText | None = None
    zip: ShortText | None = None
    country: ShortText | None = None


class Preferences(Camel):
    """Marketing consent. Orders never change it."""

    email_opt_in: bool = False
    sms_opt_in: bool = False


class PreferencesPatch(Camel):
    """Changes to the marketing consent. An absent field stays as it is."""

    email_opt_in: bool | None = None
    sms_opt_in: bool | None = None


class CustomerPatch(Camel):
    """Changes to a customer. An absent field stays as it is; null clears it.

    A name, an e-mail or a phone must be left. Orders that came with an e-mail that you clear still
    belong to the customer: it stays among their identifiers.
    """

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"notes": "Prefers e-mail.", "segment": "vip"}]}
    )

    name: Name | None = None
    email: Email | None = None
    phone: ShortText | None = None
    address: Address | None = None
    preferences: PreferencesPatch | None = None
    notes: LongText | None = None
    fields: dict[FieldKey, FieldValue | None] = Field(
        default_factory=dict,
        max_length=MOST_FIELDS,
        description="Values of own fields, by key; `/fields` lists the fields. Texts, choices and "
        "dates such as `2026-11-28` are strings. Fields that are absent stay; null clears one.",
        examples=[{"shoe_size": 42.5, "birthday": None}],
    )
    segment: Segment | None = Field(
        None, description="Sets the segment by hand; null hands the customer back to the rules."
    )
    segment_pinned: bool = Field(
        default=False, description="True keeps the segment set by hand for good."
    )
    segment_pinned_until: AwareDatetime | None = Field(
        None,
        description="Keeps the segment set by hand until then. "
        "Without this and without a pin, it is kept until the next order.",
    )


class NewCustomer(CustomerPatch):
    """A customer to create by hand: a name, an e-mail or a phone is enough."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"name": "Jane Smith", "email": "jane@example.com"},
                {"name": "Rahim", "phone": "+880 1711-000001"},
            ]
        }
    )


class Identifier(Camel):
    """Something by which an event names a customer."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "identifier": "external:/shop#5512",
                    "kind": "external",
                    "value": "5512",
                    "source": "/shop",
                    "since": "2026-09-01T08:30:02.123456Z",
                    "by": None,
                }
            ]
        }
    )

    identifier: str = Field(
        description="Kind and normalised value as one text. Send it back to name the identifier."
    )
    kind: IdentifierKind = Field(
        description="`customer`: the id of a customer who was merged into this one."
    )
    value: str
    source: str | None = Field(description="The system that has this id, for an `external` id.")


class CustomerIdentifier(Identifier):
    """An identifier of a customer."""

    since: datetime
    by: str | None = Field(description="Who gave it to them. Null: an order event did.")


class OtherCurrency(Camel):
    """Money in another currency than the store's. It is in no other figure.

    An order in another currency counts, with its date. If its event has an `exchangeRate`, its
    money is converted and added; if not, it stands here.
    """

    currency: str = Field(description="As in ISO 4217.")
    orders: int = Field(description="Counted orders in this currency without an exchange rate.")
    amount: float = Field(description="Their totals less refunds, in this currency.")


class Customer(Camel):
    """A customer."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "CUST-1001",
                    "name": "Jane Smith",
                    "email": "jane@example.com",
                    "phone": "555-5678",
                    "address": {
                        "street": "1 Main St",
                        "city": "Austin",
                        "state": "TX",
                        "zip": "78701",
                        "country": "US",
                    },
                    "segment": "returning",
                    "segmentSource": "rules",
                    "segmentPinned": False,
                    "segmentPinnedUntil": None,
                    "preferences": {"emailOptIn": True, "smsOptIn": False},
                    "notes": "",
                    "dateCreated": "2026-09-01T08:30:00Z",
                    "dateUpdated": "2026-11-22T10:00:00Z",
                    "firstOrderDate": "2026-09-01T08:30:00Z",
                    "lastOrderDate": "2026-11-22T09:59:58Z",
                    "totalOrders": 2,
                    "totalSpent": 229.94,
                    "otherCurrencies": [{"currency": "EUR", "orders": 1, "amount": 80.00}],
                    "orderIds": ["ORD-900", "ORD-1001"],
                    "tags": ["Newsletter", "Wholesale"],
                    "fields": {"birthday": "1990-04-01", "shoe_size": 42.5},
                    "identifiers": [
                        {
                            "identifier": "email:jane@example.com",
                            "kind": "email",
                            "value": "jane@example.com",
                            "source": None,
                            "since": "2026-09-01T08:30:02.123456Z",
                            "by": None,
                        }
                    ],
                }
            ]
        }
    )

    id: str
    name: str | None
    email: str | None
    phone: str | None
    address: Address
    segment: Segment
    segment_source: Literal["rules", "manual"]
    segment_pinned: bool
    segment_pinned_until: datetime | None
    preferences: Preferences
    notes: str
    date_created: datetime
    date_updated: datetime
    first_order_date: datetime | None
    last_order_date: datetime | None
    total_orders: int
    total_spent: float = Field(description="In the store's currency.")
    other_currencies: list[OtherCurrency]
    order_ids: list[str]
    tags: list[str]
    fields: dict[str, Value] = Field(
        description="Values of own fields, by key. A field without a value is left out."
    )
    identifiers: list[CustomerIdentifier] = Field(description="All that means them in events.")


class ListedOutlook(Camel):
    """What is expected of a customer of a list; `…/outlook` says more."""

    chance: float = Field(description="Of an order within 90 days, 0 to 1.")
    expected_orders: float = Field(description="Within 365 days.")
    expected_value: float | None = Field(
        description="The same. Null if the test of the model says that it cannot be trusted."
    )
    expected_next_order: date | None
    overdue: bool = Field(description="Silent for longer than is usual for them.")
    rfm_group: RfmGroup


class ListedCustomer(Customer):
    """A customer of a list."""

    outlook: ListedOutlook | None = Field(description="Null: nothing is predicted of them.")


class Customers(Collection):
    """A page of customers. ``total`` counts all that match the filter."""

    items: list[ListedCustomer]
    similar: list[Customer] = Field(
        [],
        description="Only if nobody matches the search: up to five customers with similar names, "
        "the closest first. `total` does not count them.",
    )


_KEYS = [(name, to_camel(name)) for name in Customer.model_fields]
_NESTED = {"address", "preferences"}
_HOLD_FIELDS = {"segment": "segment", "segment_pinned": "pinned", "segment_pinned_until": "until"}
_PLAIN = [
    name for name in CustomerPatch.model_fields if name not in {*_NESTED, *_HOLD_FIELDS, "fields"}
]
_CLEARED = {"notes": ""}
"""The value that is stored for a cleared field, if it is not null."""


def customer_json(customer: CustomerRow) -> dict[str, Any]:
    """Return the JSON of a customer: the fields of `Customer`, mostly columns of the same name."""
    address = customer.address or {}
    composed: dict[str, Any] = {
        "id": customer_ref(customer.id),
        "address": {part: address.get(part) for part in Address.model_fields},
        "segment_source": "manual" if customer.segment_manual else "rules",
        "preferences": {
            to_camel(name): getattr(customer, name) for name in Preferences.model_fields
        },
        "fields": customer.own_fields,
        "identifiers": [customer_identifier_json(row) for row in customer.identifiers],
        "other_currencies": [each._asdict() for each in customer.money_apart],
    }
    return {
        key: composed[name] if name in composed else getattr(customer, name) for name, key in _KEYS
    }


def customer_identifier_json(row: IdentifierRow) -> dict[str, Any]:
    """Return the JSON of an identifier of a customer."""
    return identifier_json(row.identifier) | {"since": row.since, "by": row.given_by}


def identifier_json(identifier: str) -> dict[str, Any]:
    """Return the parts of an identifier."""
    kind, value, source = kind_of(identifier), value_of(identifier), None
    if kind is IdentifierKind.EXTERNAL:
        source, value = source_and_id(identifier)
    elif kind is IdentifierKind.CUSTOMER:
        value = customer_ref(int(value))
    return {"identifier": identifier, "kind": kind, "value": value, "source": source}


def columns(body: CustomerPatch) -> dict[str, Any]:
    """Return the columns that a request changes, as `editing.edit` takes them."""
    sent = body.model_fields_set
    changes = {name: getattr(body, name) or _CLEARED.get(name) for name in _PLAIN if name in sent}
    if "address" in sent:
        changes["address"] = body.address and body.address.model_dump(exclude_unset=True)
    if body.preferences:
        changes |= body.preferences.model_dump(exclude_unset=True, exclude_none=True)
    return changes


def hold(body: CustomerPatch) -> HoldEdit:
    """Return the segment that a request sets by hand, and how long it is kept."""
    return HoldEdit(
        given=frozenset(_HOLD_FIELDS[name] for name in body.model_fields_set & _HOLD_FIELDS.keys()),
        segment=body.segment and body.segment.value,
        pinned=body.segment_pinned,
        until=body.segment_pinned_until,
    )
