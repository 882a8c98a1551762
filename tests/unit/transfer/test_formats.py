"""Each format makes of its records what they mean."""

import csv
import io
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.judge import Terms
from service.core.order_event import OrderEvent
from service.transfer.customer_lines import CustomerLine, customer_line
from service.transfer.formats import FORMATS, recognised
from service.transfer.formats.format import Format, OrderDocument, Reading
from service.transfer.lines import LineFault, RefusedLineError
from service.transfer.order_lines import order_line

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
AS_OF = NOW - timedelta(days=1)
TERMS = Terms("USD", 100_000)
SHOPIFY = (
    "Name,Email,Financial Status,Paid at,Fulfillment Status,Fulfilled at,Accepts Marketing,"
    "Currency,Subtotal,Total,Created at,Lineitem name,Billing Name,Billing Address1,"
    "Billing Address2,Billing City,Billing Zip,Billing Province,Billing Country,Billing Phone,"
    "Shipping Name,Shipping Zip,Shipping Country,Notes,Cancelled at,Refunded Amount,Id,Phone"
)


def _reading(**others: Any) -> Reading:
    return Reading(**{"zone": UTC, "country": None, "source": "", **others})


def _judged(
    values: Mapping[str, Any], reading: Reading | None = None, *, as_json: bool = False
) -> OrderEvent | CustomerLine | LineFault:
    layout = recognised(list(values), json=as_json)
    assert layout
    return _read(layout, values, reading or _reading())


def _read(
    layout: Format, values: Mapping[str, Any], reading: Reading
) -> OrderEvent | CustomerLine | LineFault:
    try:
        told = layout.read(values, reading)
    except RefusedLineError as error:
        return error.fault
    if isinstance(told, OrderDocument):
        line = order_line(told, TERMS, NOW, AS_OF, layout.theirs)
        return line if isinstance(line, LineFault) else line.event
    return customer_line(told, NOW, reading.zone)


def _shopify(**cells: str) -> dict[str, str]:
    columns = next(csv.reader(io.StringIO(SHOPIFY)))
    usual = {
        "Name": "#1001",
        "Financial_Status": "paid",
        "Total": "125.40",
        "Created_at": "2022-01-11 04:32:30 -0500",
    }
    told = {name.replace("_", " "): value for name, value in {**usual, **cells}.items()}
    return {column: told.get(column, "") for column in columns}


def test_an_order_of_shopify() -> None:
    event = _judged(
        _shopify(
            Email="Jane@X.org",
            Paid_at="2022-01-11 04:32:31 -0500",
            Fulfillment_Status="fulfilled",
            Fulfilled_at="2022-07-01 04:32:31 -0400",
            Refunded_Amount="25.40",
            Currency="USD",
            Billing_Name="Jane  Smith",
            Billing_Address1="1 Main St",
            Billing_Address2="Unit 4",
            Billing_Zip="'01653",
            Billing_Country="US",
            Billing_Phone="'+46 78 001 04 55",
        )
    )
    assert isinstance(event, OrderEvent)
    assert (event.order_id, event.status, event.payment_status) == ("#1001", "delivered", "paid")
    assert (event.total_cents, event.refunded_cents, event.currency) == (12540, 2540, None)
    assert event.date_created == datetime(2022, 1, 11, 9, 32, 30, tzinfo=UTC)
    assert event.key.at == datetime(2022, 7, 1, 8, 32, 31, tzinfo=UTC)
    assert event.key.sent == AS_OF
    customer = event.customer
    assert customer
    assert (customer.identifiers, customer.name) == (("email:jane@x.org",), "Jane Smith")
    assert customer.phone == "+46 78 001 04 55"
    assert customer.address == {"street": "1 Main St, Unit 4", "zip": "01653", "country": "US"}


@pytest.mark.parametrize(
    ("cells", "status", "payment"),
    [
        ({}, "processing", "paid"),
        ({"Financial_Status": "pending"}, "pending", "pending"),
        ({"Financial_Status": "authorized"}, "pending", "pending"),
        ({"Financial_Status": "partially_paid"}, "pending", "pending"),
        ({"Financial_Status": "voided"}, "processing", "failed"),
        ({"Financial_Status": "refunded"}, "processing", "refunded"),
        ({"Cancelled_at": "2022-01-12 04:32:30 -0500"}, "cancelled", "paid"),
    ],
)
def test_the_statuses_of_shopify(cells: dict[str, str], status: str, payment: str) -> None:
    event = _judged(_shopify(**cells))
    assert isinstance(event, OrderEvent)
    assert (event.status, event.payment_status) == (status, payment)


def test_a_phone_names_whoever_has_no_email() -> None:
    """A phone without a plus is from the country of its address."""
    named = _judged(_shopify(Phone="(807) 897-2977", Billing_Country="US"))
    assert isinstance(named, OrderEvent)
    assert named.customer
    assert named.customer.identifiers == ("phone:+18078972977",)
    nobody = _judged(_shopify(Phone="(807) 897-2977"))
    assert isinstance(nobody, OrderEvent)
    assert nobody.customer is None


def test_an_order_of_shopify_has_a_line_for_each_item() -> None:
    layout = recognised(list(_shopify()), json=False)
    assert layout
    assert layout.continues
    first, other = _shopify(), _shopify(Name="#1002")
    item = {**dict.fromkeys(first, ""), "Name": "#1001", "Lineitem name": "Cap"}
    assert layout.continues(first, item)
    assert not layout.continues(other, item)
    assert not layout.continues(first, _shopify(Total="9.00"))
    assert not layout.continues(first, {**item, "Total": "9.00"})
    alone = _judged(item)
    assert isinstance(alone, LineFault)
    assert "the line above is not of the same order" in alone.problem


def test_orders_of_shopify_are_never_taken_for_customers() -> None:
    columns = list(_shopify())
    for kept in (columns, ["Name", "Email", "Lineitem name", "Phone"], ["Email", "Subtotal"]):
        layout = recognised(kept, json=False)
        assert layout is None or layout.name == "shopify-orders"


@pytest.mark.parametrize("prefix", ["", "Default Address "])
def test_a_customer_of_shopify(prefix: str) -> None:
    reading = _reading(source="my.shop")
    line = _judged(
        {
            "Customer ID": "4122751419977",
            "First Name": "Jane",
            "Last Name": "Smith",
            "Email": "Jane@x.org",
            "Accepts Email Marketing": "yes",
            f"{prefix}Address1": "1 Main St",
            f"{prefix}City": "Austin",
            f"{prefix}Province Code": "TX",
            f"{prefix}Country Code": "US",
            f"{prefix}Zip": "'07870",
            "Phone": "'+15125555678",
            "Accepts SMS Marketing": "nyes",
            "Total Spent": "100.00",
            "Total Orders": "3",
            "Note": "calls",
        },
        reading,
    )
    assert isinstance(line, CustomerLine)
    assert (line.name, line.email, line.phone) == ("Jane Smith", "Jane@x.org", "+15125555678")
    assert line.external == "external:my.shop#4122751419977"
    assert (line.email_opt_in, line.sms_opt_in) == (True, False)
    assert line.address == {
        "street": "1 Main St",
        "city": "Austin",
        "state": "TX",
        "zip": "07870",
        "country": "US",
    }
    assert line.figures == (None, None)
    assert [found.column for found in reading.noticed] == ["Accepts SMS Marketing"]


def _woocommerce(**others: Any) -> dict[str, Any]:
    return {
        "id": 723,
        "number": "723",
        "status": "completed",
        "currency": "USD",
        "total": "39.00",
        "customer_id": 26,
        "date_created": "2017-03-21T16:16:00",
        "date_created_gmt": "2017-03-21T19:16:00",
        "date_modified_gmt": "2017-03-21T19:54:51",
        "billing": {"first_name": "João", "last_name": "Silva", "email": "j@x.org"},
        "refunds": [{"total": "-10.00"}, {"total": "-9.00"}],
        "_links": {"self": [{"href": "https://shop.example/wp-json/wc/v3/orders/723"}]},
        **others,
    }


def test_an_order_of_woocommerce() -> None:
    event = _judged(_woocommerce(), as_json=True)
    assert isinstance(event, OrderEvent)
    assert (event.order_id, event.total_cents, event.refunded_cents) == ("723", 3900, 1900)
    assert (event.status, event.payment_status) == ("completed", "partially_refunded")
    assert event.date_created == datetime(2017, 3, 21, 19, 16, tzinfo=UTC)
    assert event.customer
    assert event.customer.identifiers == ("external:shop.example#26", "email:j@x.org")


def test_a_guest_of_woocommerce_has_no_number() -> None:
    event = _judged(_woocommerce(customer_id=0), as_json=True)
    assert isinstance(event, OrderEvent)
    assert event.customer
    assert event.customer.identifiers == ("email:j@x.org",)


def test_a_cart_of_woocommerce_is_no_order() -> None:
    fault = _judged(_woocommerce(status="wc-checkout-draft"), as_json=True)
    assert isinstance(fault, LineFault)
    assert fault.column == "status"
    failed = _judged(_woocommerce(status="wc-failed"), as_json=True)
    assert isinstance(failed, OrderEvent)
    assert failed.payment_status == "failed"


def test_a_time_without_an_offset_is_in_the_zone_of_the_store() -> None:
    report = {
        "Name": "Jane",
        "Email": "j@x.org",
        "Sign Up": "2021-01-28T18:40:36",
        "Total Spend": "949",
        "AOV": "949",
        "Orders": "4",
    }
    reading = _reading(zone=timezone(timedelta(hours=2)))
    line = _judged(report, reading)
    assert isinstance(line, CustomerLine)
    assert [found.what for found in reading.noticed] == [
        "no offset. They were read as times of UTC+02:00"
    ]
    assert line.date_created == datetime(2021, 1, 28, 16, 40, 36, tzinfo=UTC)


def test_what_the_guide_kept_in_the_browser() -> None:
    line = _judged(
        {
            "id": "CUST-1001",
            "name": "Jane",
            "email": "j@x.org",
            "segment": "vip",
            "address": {"line1": "1 Main St", "line2": "Unit 4", "city": "Austin"},
            "preferences": {"emailOptIn": True, "smsOptIn": False},
            "notes": "calls",
            "dateCreated": "2026-01-02T03:04:05Z",
        },
        as_json=True,
    )
    assert isinstance(line, CustomerLine)
    assert (line.id, line.notes, line.email_opt_in) == (1001, "calls", True)
    assert line.address == {"street": "1 Main St, Unit 4", "city": "Austin"}
    event = _judged(
        {
            "id": "ORD-1",
            "customerId": "CUST-1001",
            "status": "completed",
            "total": Decimal("12.50"),
            "dateCreated": "2026-01-02T03:04:05Z",
        },
        as_json=True,
    )
    assert isinstance(event, OrderEvent)
    assert event.customer
    assert (event.customer.identifiers, event.total_cents) == (("customer:1001",), 1250)


@pytest.mark.parametrize(
    "spelling", ["Email", "e-mail", "E-mail", "EMAIL ADDRESS", "Email_Address"]
)
def test_headers_in_other_spellings(spelling: str) -> None:
    layout = recognised([spelling, "name"], json=False)
    assert layout
    assert layout.canonical(spelling) == "Email"


def test_numbers_that_a_spreadsheet_has_spoilt_are_noticed() -> None:
    reading = _reading(country="BE")
    layout = recognised(["Email", "Phone"], json=False)
    assert layout
    for phone, kept in (
        ("3.24711E+10", ""),
        ("'0471123456", "0471123456"),
        ("'+32471123456", "+32471123456"),
        ("0471123456", "0471123456"),
    ):
        told = layout.read({"Email": "a@x.org", "Phone": phone}, reading)
        assert isinstance(told, dict)
        assert told["Phone"] == kept
    assert [found.column for found in reading.noticed] == ["Phone"]
    fault = _judged(
        {"id": "1.00123E+12", "status": "completed", "totalAmount": "1", "dateCreated": ""}
    )
    assert isinstance(fault, LineFault)
    assert fault.problem == "1.00123E+12 was an id before a spreadsheet cut off its digits"


_ANY = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.decimals(),
        st.text(max_size=20),
        st.sampled_from(["1.5", "-3", "NaN", "1E+400", "2022-01-11 04:32:30 -0500", "0001-01-01"]),
        st.sampled_from(["a@x.org", "'0", "3.2E+10", "CUST-1001", "+32471123456", "US", "paid"]),
        st.sampled_from(["wc-", "\x00", "\ud800"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@pytest.mark.parametrize("layout", FORMATS, ids=lambda layout: layout.name)
@given(data=st.data())
def test_no_record_makes_a_format_fail(layout: Format, data: st.DataObject) -> None:
    columns = st.sampled_from([*layout.columns, "data", "specversion", "id", "other"])
    values = data.draw(
        st.dictionaries(columns, _ANY if layout.json else st.text(max_size=20), max_size=20)
    )
    before = dict(values)
    assert isinstance(_read(layout, values, _reading()), OrderEvent | CustomerLine | LineFault)
    assert values == before
