"""The usual event is read at once, and every verdict is that of the full contract."""

import json
import random
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core import judge as judging
from service.core.envelope import Entry
from service.core.judge import Terms, judge
from service.core.order_event import OrderEvent
from service.core.usual_event import read_usual
from tests.bench.load import events
from tests.unit.core.test_order_event import FULL, NOW, anything, mutated, with_json, with_value

TERMS = Terms("USD", 1_048_576, "US")


def agreed(raw: bytes) -> object:
    """Return the verdict. Fail if the full contract comes to another."""
    entry = Entry(f"{int(NOW.timestamp() * 1000)}-0", {b"data": raw})
    verdict = judge(entry, TERMS, NOW)
    in_full = judging._judge_in_full(raw, entry, TERMS, NOW)
    assert verdict == in_full
    return verdict


def test_all_events_of_the_bench_are_usual() -> None:
    for raw in events(300, 200):
        assert read_usual(raw) is not None
        agreed(raw)


def test_what_else_an_event_may_have_does_not_make_it_unusual() -> None:
    found: dict[str, Any] = with_value("data.items", [{"sku": "é", "price": 9.99, "tags": ["x"]}])
    found["data"]["customer"]["name"] = "Zoë"
    for ascii_only in (True, False):
        raw = json.dumps(found, ensure_ascii=ascii_only).encode()
        assert read_usual(raw) is not None
        assert isinstance(agreed(raw), OrderEvent)


UNUSUAL: dict[str, tuple[Any, ...]] = {
    "data.totalAmount": ("12", 12, 12.5, "1e2", "", "-1.00", "1234567890123.00", "٣.٠٠"),
    "data.refundedAmount": ("", 0, None, "0", "0.001"),
    "data.version": (1.0, 1e2, True, -1, 2**63, 2**63 - 1, "1", None),
    "data.id": (" A", "A\u00a0", "", "x" * 200, "x" * 201, "é" * 200, "😀" * 201, 17),
    "data.status": ("Shipped", "canceled", "lost", None),
    "data.paymentStatus": ("authorized", "", None, "odd"),
    "data.currency": ("usd", "", "EUR", "US", None, 3),
    "data.exchangeRate": ("1.5", None, "fast"),
    "data.shopId": ("17", 17, None, "x" * 201),
    "data.dateCreated": ("2026-11-21", "2026-11-21T10:00:00", "2026-11-21t10:00:00.1234567z", ""),
    "data.dateUpdated": (None, "", "2026-11-21\n10:00:00Z", "9999-12-31T23:59:59-23:59"),
    "data.customer": (None, "", [], {}, {"id": 7}, {"id": "0"}, {"phone": 5125555678}),
    "data.customer.email": ("", " Jane@X.org ", "no address", None, "x" * 400, "\u200b"),
    "data.customer.name": ("x" * 1000, "x" * 1001, 5, "\x00", "\ud800"),
    "data.shippingAddress": (None, "", [], {}, {"line1": "1 Main St"}, {"street": " "}, {"zip": 7}),
    "time": (None, "", "2027-11-22T00:00:00Z", "1989-01-01T00:00:00Z"),
    "source": (None, "x" * 200, "x" * 201, 7),
    "specversion": ("1.0", "0.3", None),
    "traceparent": (None, "00-a-b-01", 7, {}),
    "type": ("order-created", "order-deleted", None),
    "headers": ({}, []),
    "data.items": ([[[]]], {"x": {"y": [1e400]}}),
}


@pytest.mark.parametrize(
    ("path", "value"), [(path, value) for path, values in UNUSUAL.items() for value in values]
)
def test_an_unusual_value_is_judged_by_the_full_contract(path: str, value: object) -> None:
    agreed(with_json(path, json.dumps(value)))


@pytest.mark.parametrize(
    "part",
    [
        b"1e9999999999999999999999",
        b"-1e-9999999999999999999999",
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b'"\\ud800"',
        b'"\\u0000"',
        b'"\x01"',
        b"NaN",
        b"01",
        b"9" * 4000,
        b"9" * 5000,
        b"[" * 3000 + b"]" * 3000,
        b'{"a":' * 900 + b"1" + b"}" * 900,
        b'{"a": 1, "a": 2}',
        b'2, "data": 3',
    ],
)
def test_what_nobody_reads_is_judged_by_the_full_contract(part: bytes) -> None:
    agreed(with_json("data.items", "@@").replace(b"@@", part))
    agreed(with_json("extra", "@@").replace(b"@@", part))


@given(mutated())
def test_any_values_are_judged_as_by_the_full_contract(found: dict[str, Any]) -> None:
    agreed(json.dumps(found).encode())


@given(anything)
def test_any_document_is_judged_as_by_the_full_contract(found: object) -> None:
    agreed(json.dumps(found).encode())


_PIECES = [*(bytes([code]) for code in b'{}[]",:\\0-1eE.+ \x00\xff\xc3'), b"null", b"\\u00", b"[["]


@given(st.randoms(use_true_random=False))
def test_any_bytes_are_judged_as_by_the_full_contract(rng: random.Random) -> None:
    """A document in which bytes are inserted, removed, doubled or cut off."""
    raw = json.dumps(FULL, ensure_ascii=rng.random() < 0.5).encode()
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(raw) + 1)
        until = min(len(raw), at + rng.choice((0, 0, 1, 2, 10, 400)))
        new = rng.choice((b"", rng.choice(_PIECES), raw[at:until] * 2))
        raw = raw[:at] + new + raw[until:]
    agreed(raw)


def test_times_are_read_alike() -> None:
    at = datetime(2026, 11, 21, 10, tzinfo=UTC)
    event = agreed(with_json("data.dateCreated", '"2026-11-21T12:00:00+02:00"'))
    assert isinstance(event, OrderEvent)
    assert event.date_created == at
