"""Files of every format, damaged in every way: no crash, and no line without an account."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.core.judge import Terms
from service.transfer.customer_lines import customer_line
from service.transfer.formats.format import OrderDocument, Reading
from service.transfer.import_outcome import ImportOutcome
from service.transfer.importer import grouped, read
from service.transfer.lines import LineFault
from service.transfer.order_lines import order_line
from service.transfer.reading.opening import opened
from service.transfer.reading.record import UnreadableError
from service.transfer.recognition import Wanted, recognised_file

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
ORDERS = """\
Name,Email,Financial Status,Total,Created at,Lineitem name,Billing Name,Billing Phone,Notes
#1,zoë@x.org,paid,20.00,2022-01-11 04:32:30 -0500,Cap,Zoë,'+32 471 12 34 56,"one
two, ""three"" x"
#1,zoë@x.org,,,2022-01-11 04:32:30 -0500,Hat,,,
#2,,refunded,5.00,2022-07-11 04:32:30 -0400,"Cap; ""L"" ",Ann,(512) 555-5678,
"""
CUSTOMERS = """\
First Name;Last Name;Email;Accepts Email Marketing;Total Spent;Total Orders;Note
Zoë;X;zoë@x.org;yes;1.00;1;"calls
often"
Ann;;ann@x.org;nyes;;;
"""
OURS = "ID\tEmail\tName\tSegment\nCUST-1001\ta@x.org\tAnn\tvip\n\nCUST-1002\tb@x.org\tBé\t\n"
PLAIN = "id,status,totalAmount,dateCreated,zip\nA-1,completed,1.50,2026-01-01,'01653\nA-2,,,,\n"
_WOOCOMMERCE: list[dict[str, Any]] = [
    {
        "id": number,
        "status": "completed",
        "total": "39.00",
        "customer_id": number,
        "date_created": "2017-03-21T16:16:00",
        "billing": {"first_name": "João", "email": "j@x.org"},
        "refunds": [{"total": "-10.00"}],
    }
    for number in range(3)
]
SEEDS = {
    "orders_export.csv": ORDERS,
    "customers_export.csv": CUSTOMERS,
    "ours.csv": OURS,
    "plain.csv": PLAIN,
    "array.json": json.dumps(_WOOCOMMERCE, indent=2, ensure_ascii=False),
    "lines.ndjson": "".join(f"{json.dumps(each)}\n" for each in _WOOCOMMERCE),
    "storage.json": json.dumps({"recoveryEssentials_orders": json.dumps(_WOOCOMMERCE)}),
}

Damage = Callable[[bytes], bytes]
_PLACES = st.floats(0, 1, exclude_max=True)
_BYTES = st.sampled_from(
    [
        b'"',
        b"'",
        b",",
        b";",
        b"\n",
        b"\r",
        b"\r\n",
        b"\x00",
        b"\xeb",
        b"\xff\xfe",
        b"{",
        b"]",
        b"\\",
    ]
)


def _at(content: bytes, place: float) -> int:
    return int(place * (len(content) + 1))


def _inserted(place: float, piece: bytes) -> Damage:
    return lambda content: content[: _at(content, place)] + piece + content[_at(content, place) :]


def _cut(place: float) -> Damage:
    return lambda content: content[: _at(content, place)]


def _without(place: float, many: int) -> Damage:
    return lambda content: content[: _at(content, place)] + content[_at(content, place) + many :]


_DAMAGE = st.one_of(
    st.builds(_inserted, _PLACES, _BYTES),
    st.builds(_cut, _PLACES),
    st.builds(_without, _PLACES, st.integers(1, 30)),
    st.sampled_from(["\r", "\r\n"]).map(lambda end: lambda it: it.replace(b"\n", end.encode())),
)


@pytest.mark.parametrize("name", SEEDS)
@given(
    damages=st.lists(_DAMAGE, max_size=4),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "cp1252", "utf-16"]),
)
@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_line_is_without_an_account(
    tmp_path: Path, name: str, damages: list[Damage], encoding: str
) -> None:
    content = SEEDS[name].encode(encoding)
    for damage in damages:
        content = damage(content)
    path = tmp_path / name
    path.write_bytes(content)
    outcome = ImportOutcome()
    try:
        with recognised_file(path, Wanted()) as file:
            outcome.begin(file, reading := Reading(UTC, "BE", ""))
            lines = _lines(path, _encoding_of(path), json=file.format.json)
            for record in grouped(file.format, file.records, outcome):
                told: Any = read(file.format, record, reading)
                if isinstance(told, OrderDocument):
                    told = order_line(told, Terms("USD", 100_000), NOW, NOW, file.format.theirs)
                elif not isinstance(told, LineFault):
                    told = customer_line(told, NOW, UTC)
                if isinstance(told, LineFault):
                    outcome.refuse(record, told)
                else:
                    outcome.lines_read += record.lines
    except UnreadableError:
        return
    assert outcome.lines == lines


def _encoding_of(path: Path) -> str:
    with opened(path, None) as file:
        return file.text.encoding


def _lines(path: Path, encoding: str, *, json: bool) -> int:
    """Count the lines of a file as its readers do: JSON knows no end but the line feed."""
    with path.open(encoding=encoding, errors="surrogateescape", newline="\n" if json else "") as it:
        return sum(1 for _ in it)
