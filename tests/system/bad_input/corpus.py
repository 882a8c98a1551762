"""Stream entries that must be refused. Each is named by its fault and has an expected reason."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from service.core.order_event import Reason
from tests.events import cloud_event

Fields = dict[bytes, bytes]
Refused = tuple[Fields, Reason]

_MEBIBYTE = 1_048_576
_HERE = "@@@"
NOW = datetime.now(UTC)


def document() -> dict[str, Any]:
    """Return a valid event with every field that the contract knows."""
    found = cloud_event(
        "BAD-1",
        email="bad@example.org",
        name="Jané 🛒",
        phone="555",
        created=NOW - timedelta(days=1),
        event_time=NOW,
        shippingAddress={"street": "1 Main St", "city": "Austin", "zip": "78701", "country": "US"},
    )
    return found | {"source": "/corpus"}


def encoded(found: object) -> bytes:
    """Return the document as JSON."""
    return json.dumps(found).encode()


def with_value(path: str, value: object) -> dict[str, Any]:
    """Return a valid event with the value at a dotted path replaced."""
    found: dict[str, Any] = document()
    at = found
    *parents, last = path.split(".")
    for name in parents:
        at = at[name]
    at[last] = value
    return found


def with_json(path: str, literal: str | bytes) -> bytes:
    """Return a valid event with one value written exactly like this."""
    literal = literal.encode() if isinstance(literal, str) else literal
    return encoded(with_value(path, _HERE)).replace(f'"{_HERE}"'.encode(), literal)


def older_envelope(text: str) -> bytes:
    """Wrap a document in JSON, as FastStream did before it had a binary envelope."""
    return encoded({"headers": {"correlation_id": "c-1"}, "data": text})


def binary_envelope(headers: int, data: int, rest: bytes, version: int = 1) -> bytes:
    """Return FastStream's binary envelope, which states where its headers and its data begin."""
    head = b"\x89BIN\r\n\x1a\n" + version.to_bytes(2)
    return head + headers.to_bytes(4) + data.to_bytes(4) + rest


def _carriers() -> Iterator[tuple[str, Fields, Reason]]:
    text = encoded(document())
    none, not_json, utf8 = Reason.NO_DATA_FIELD, Reason.NOT_JSON, Reason.INVALID_UTF8
    yield "another field", {b"payload": text}, none
    yield "the name in capitals", {b"DATA": text}, none
    yield "a name with NUL", {b"data\x00": text}, none
    yield "a nameless field", {b"": text}, none
    yield "a name that is no text", {b"\xff\xfe": text, b"\\xff\\xfe": b"not the same"}, none
    yield "ten thousand fields", {f"f{n}".encode(): b"x" for n in range(10_000)}, Reason.TOO_LARGE
    yield (
        "ten thousand empty fields",
        {f"f{n}".encode(): b"" for n in range(10_000)},
        Reason.TOO_LARGE,
    )
    yield "empty", {b"data": b""}, not_json
    yield "empty beside a good one", {b"data": b"", b"__data__": text}, not_json
    yield "rubbish in the other field", {b"__data__": b"\x00\x01\x02"}, not_json
    yield "envelope, only its mark", {b"__data__": b"\x89BIN\r\n\x1a\n"}, utf8
    yield "envelope of nothing", {b"__data__": binary_envelope(18, 18, b"")}, not_json
    yield "envelope beyond its end", {b"__data__": binary_envelope(9, 2**32 - 1, text)}, not_json
    yield "envelope around itself", {b"__data__": binary_envelope(0, 0, text)}, utf8
    yield (
        "envelope in an envelope",
        {b"__data__": binary_envelope(18, 18, binary_envelope(18, 18, text))},
        utf8,
    )
    yield "older envelope of rubbish", {b"data": older_envelope("{")}, not_json
    yield "older envelope of text", {b"data": older_envelope('"text"')}, Reason.NOT_AN_OBJECT
    yield "older envelope, no UTF-8", {b"data": older_envelope("\ud800")}, not_json
    for escape in ("\\u0000", "\\ud800"):
        inner = with_json("data.customer.id", f'"{escape}"').decode()
        hidden = older_envelope(inner).replace(b"\\\\u", b"\\u005cu")
        yield f"older envelope that hides {escape}", {b"data": hidden}, Reason.INVALID_TEXT


def _documents() -> Iterator[tuple[str, bytes, Reason]]:
    text = encoded(document())
    not_json, utf8 = Reason.NOT_JSON, Reason.INVALID_UTF8
    yield "UTF-16", json.dumps(document()).encode("utf-16"), utf8
    yield "UTF-32", json.dumps(document()).encode("utf-32"), utf8
    yield "two byte order marks", b"\xef\xbb\xbf" * 2 + text, not_json
    yield "Latin-1", with_json("data.customer.name", b'"Ren\xe9"'), utf8
    yield "an overlong character", with_json("data.customer.name", b'"\xc0\xaf"'), utf8
    yield "half a pair, as bytes", with_json("data.customer.name", b'"\xed\xa0\x80"'), utf8
    yield "a character beyond Unicode", with_json("data.customer.name", b'"\xf4\x90\x80\x80"'), utf8
    yield "gzip", b"\x1f\x8b\x08\x00" + text, utf8
    yield "NUL bytes only", bytes(1000), not_json
    yield "a raw line end in text", with_json("data.customer.name", b'"a\nb"'), not_json
    yield "a raw NUL in text", with_json("data.customer.name", b'"a\x00b"'), not_json
    yield "an unknown escape", with_json("data.customer.name", b'"\\x41"'), not_json
    yield "half an escape", with_json("data.customer.name", b'"\\u12"'), not_json
    yield "a comment", b"/* order */" + text, not_json
    yield "a comma too many", text[:-1] + b",}", not_json
    yield "single quotes", text.replace(b'"', b"'"), not_json
    yield "two documents", text + text, not_json
    yield "lines", text + b"\n" + text, not_json
    yield "a pickle", b"\x80\x04\x95\x0b\x00", utf8
    yield "XML", b'<?xml version="1.0"?><order id="1"/>', not_json
    yield "YAML", b"id: 1\ntype: order-created\n", not_json
    yield "a bare word", b"order", not_json
    yield "deep arrays", b"[" * 200_000, not_json
    yield "deep arrays, closed", b"[" * 100_000 + b"]" * 100_000, not_json
    yield "deep objects", b'{"a":' * 100_000 + b"1" + b"}" * 100_000, not_json
    yield "depth in what is ignored", with_json("source", b"[" * 99_999 + b"]" * 99_999), not_json
    yield "a number of 5,000 digits", with_json("data.totalAmount", "9" * 5000), not_json
    for word in ("NaN", "Infinity", "-Infinity", "nan", "undefined", "0x10", "01", "1.", ".5"):
        yield f"the number {word}", with_json("data.totalAmount", word), not_json
    for name, whole in (("null", b"null"), ("a number", b"1e400"), ("text", b'"{}"')):
        yield f"only {name}", whole, Reason.NOT_AN_OBJECT
    yield "a list of events", b"[" + text + b"]", Reason.NOT_AN_OBJECT
    yield "an empty object", b"{}", Reason.MISSING_FIELD
    yield "a key that comes twice", text[:-1] + b',"data":{}}', Reason.MISSING_FIELD


_AMOUNTS = (
    *("1e400", "-1e400", "1e12", "1e999999999", "999999999999.995", "-0.001", "-1e-400"),
    *('"NaN"', '"-Infinity"', '"1e400"', '"1,00"', '"1 000"', '"１"', '"1\\u0000"', '" "', "true"),
    *("9" * 4000, "-" + "9" * 4000, '"' + "9" * 4000 + '"', '"0.' + "0" * 4000 + '1"', "[1]"),
)
_TIMES: tuple[object, ...] = (
    *("", "0", "now", "2026-11-22", "2026-11-22T10:00:00", "2026-13-01T00:00:00Z", "٢٠٢٦-11-22"),
    *("0000-00-00T00:00:00Z", "0001-01-01T00:00:00+23:59", "1989-12-31T23:59:59.999999Z"),
    *("9999-12-31T23:59:59Z", "9999-12-31T23:59:59-23:59", "10000-01-01T00:00:00Z"),
    *("2026-11-22T24:00:01Z", "2026-02-29T10:00:00Z", "2026-11-22T10:00:00+99:99", "Z" * 4000),
    *(1e400, 10**30, -1, True, [], {}, "2026-11-22T10:00:00Z\x00", "2026-11-22\n10:00:00Z"),
    (NOW + timedelta(days=400)).isoformat(),
)
_EMAILS = (
    *("@", "a@", "@b", "a b@c.org", "a@b@c", "a@b\x01", "a\n@b.org", "a\x7f b", "<a@b.org> x"),
    *("mailto:a b@c", "\u202ea b@c", "\x1b[2J"),
)
_KINDS = {"number": -1, "bool": True, "list": [[]], "object": {"a": 1}, "text": "x" * 3000}
_ANYTHING = set(_KINDS)
_FITTING = {
    "subject": _ANYTHING,  # the service does not read it
    "data.id": {"number"},
    "data.customer": {"object"},
    "data.customer.id": {"number"},
    # No order is refused for these.
    "data.customer.name": _ANYTHING,
    "data.customer.phone": _ANYTHING,
    "data.shippingAddress": _ANYTHING,
    "data.shippingAddress.street": _ANYTHING,
    "data.shippingAddress.city": _ANYTHING,
    "data.shippingAddress.zip": _ANYTHING,
    "data.shippingAddress.country": _ANYTHING,
}


def _paths(found: dict[str, Any], at: str = "") -> Iterator[str]:
    for name, value in found.items():
        yield f"{at}{name}"
        if isinstance(value, dict):
            yield from _paths(value, f"{at}{name}.")


def _wrong_kinds() -> Iterator[tuple[str, bytes, None]]:
    """Return an event per field and per kind of value that the field cannot have."""
    for path in _paths(document()):
        for kind, value in _KINDS.items():
            if kind not in _FITTING.get(path, ()):
                yield f"{path} is a {kind}", encoded(with_value(path, value)), None


def _numbers_and_times() -> Iterator[tuple[str, bytes, Reason]]:
    for literal in _AMOUNTS:
        for field in ("totalAmount", "refundedAmount"):
            name = f"{field} {literal[:20]}, {len(literal)} long"
            yield name, with_json(f"data.{field}", literal), Reason.INVALID_AMOUNT
    for rate in ("0", "-1", "1e-11", "1e12", '"fast"', "true", "[1]", "9" * 4000):
        name = f"exchangeRate {rate[:20]}, {len(rate)} long"
        yield name, with_json("data.exchangeRate", rate), Reason.INVALID_AMOUNT
    yield (
        "an exchange rate that makes too much of the total",
        with_json("data.exchangeRate", '"1e11"').replace(b'"USD"', b'"EUR"'),
        Reason.INVALID_AMOUNT,
    )
    for field in ("time", "data.dateCreated", "data.dateUpdated"):
        for value in _TIMES:
            text = (
                with_json(field, "1e400") if value == 1e400 else encoded(with_value(field, value))
            )
            yield f"{field} {str(value)[:30]!r}", text, Reason.INVALID_TIME
    for version in (-1, 2**63, 10**100, "1", 1.5):
        name = f"version {str(version)[:20]!r}"
        yield name, encoded(with_value("data.version", version)), Reason.INVALID_FIELD


def _texts() -> Iterator[tuple[str, bytes, Reason]]:
    for email in _EMAILS:
        found = encoded(with_value("data.customer.email", email))
        yield f"e-mail {email!r}", found, Reason.INVALID_EMAIL
    huge = "a" * 300_000 + "@example.org"
    yield (
        "an enormous e-mail",
        encoded(with_value("data.customer.email", huge)),
        Reason.INVALID_FIELD,
    )
    for path in ("id", "source", "data.id", "data.customer.id", "data.customer.email"):
        for text in ("\x00", "\ud800", "\udc00\ud800"):
            yield f"{path} {text!r}", encoded(with_value(path, text)), Reason.INVALID_TEXT
    for currency in ("EURO", "E U", "usd\x00", "\ud800", "💵", "U\u202eSD", "x" * 100_000):
        name = f"currency {currency[:10]!r}"
        yield name, encoded(with_value("data.currency", currency)), Reason.INVALID_CURRENCY
    for kind in ("order-deleted", "", "\x00", "com.example.order", "ORDER-CREATED", "x" * 100_000):
        yield f"type {kind[:20]!r}", encoded(with_value("type", kind)), Reason.UNKNOWN_TYPE
    yield "CloudEvents 0.3", encoded(with_value("specversion", "0.3")), Reason.UNSUPPORTED_VERSION
    for path in ("id", "type", "data", "data.id", "data.status", "data.totalAmount"):
        without = with_value(path, None)
        del (without if "." not in path else without["data"])[path.removeprefix("data.")]
        yield f"no {path}", encoded(without), Reason.MISSING_FIELD


def _large() -> Iterator[tuple[str, Fields, Reason]]:
    text = encoded(document())
    yield "a byte too many", {b"data": text.ljust(_MEBIBYTE - 3)}, Reason.TOO_LARGE
    yield "a large field beside", {b"data": text, b"log": b"x" * _MEBIBYTE}, Reason.TOO_LARGE
    yield "50 MB", {b"data": bytes(range(256)) * 196_000}, Reason.TOO_LARGE


def corpus() -> dict[str, tuple[Fields, Reason | None]]:
    """Return the entries by name, with the expected reason; None if any reason is right."""
    found: dict[str, tuple[Fields, Reason | None]] = {}
    for name, fields, reason in (*_carriers(), *_large()):
        found[name] = fields, reason
    for name, text, expected in (*_documents(), *_numbers_and_times(), *_texts(), *_wrong_kinds()):
        assert name not in found, name
        found[name] = {b"data": text}, expected
    return found


def truncated() -> Iterator[Fields]:
    """Return a document and a binary envelope, cut off after each byte."""
    text = encoded(document())
    envelope = binary_envelope(18, 35, b"\x00\x01\x00\x03key\x00\x05value\x00\x00" + text)
    for name, whole in ((b"data", text), (b"__data__", envelope)):
        for end in range(len(whole)):
            yield {name: whole[:end]}


def tolerated() -> dict[str, Fields]:
    """Return entries that look bad but are accepted; each is an order of its own."""
    literals = {
        "-0": ("totalAmount", "-0"),
        "-0.00": ("totalAmount", '"-0.00"'),
        "half a cent": ("totalAmount", "0.005"),
        "just below the limit": ("totalAmount", "999999999999.994999"),
        "1e-400": ("totalAmount", "1e-400"),
        "a float's error": ("totalAmount", "108.24917500000001"),
        "the refund is the total": ("refundedAmount", "100.0049999"),
        "the refund is more than the total": ("refundedAmount", "999999999999.99"),
        "no refund, as text": ("refundedAmount", '""'),
        "another currency": ("currency", '"eur"'),
        "no currency": ("currency", '" "'),
        "a status in capitals": ("status", '"ON HOLD"'),
        "a number as the zip": ("shippingAddress.zip", "78701"),
        "an object as the name": ("customer.name", '{"first": "\\u0000"}'),
        "an address that is a text": ("shippingAddress", '"1 Main St"'),
        "half a pair in a name": ("customer.name", '"a\\ud800"'),
        "no customer, as a list": ("customer", "[]"),
        "midnight of 1990": ("dateCreated", '"1990-01-01T00:00:00Z"'),
        "nanoseconds": ("dateCreated", '"2020-02-29t10:00:00.123456789z"'),
        "an offset of 14 hours": ("dateCreated", '"2020-02-29T10:00:00+14:00"'),
        "the greatest version": ("version", str(2**63 - 1)),
        "another system's id": ("customer.id", "77"),
        "right to left": ("customer.name", '"\u202e\u05d0\u05d1 evil\u200f"'),
        "emoji of many parts": ("customer.name", '"👩‍👩‍👧‍👦🏳️‍🌈"'),
        "control characters": ("customer.name", '"\\u0001\\u001b[2J\\u007f"'),
        "a formula": ("customer.name", '"=HYPERLINK(1)"'),
        "a script": ("customer.name", '"<script>alert(1)</script>"'),
        "SQL": ("customer.name", '"\'; DROP TABLE customers; --"'),
        "NUL in what is ignored": ("notes", '"\\u0000\\ud800"'),
        "depth in what is ignored": ("items", "[" * 500 + "]" * 500),
    }
    found = {}
    for number, (name, (field, literal)) in enumerate(literals.items()):
        event = document()
        event["id"], event["data"]["id"] = f"tolerated-{number}", f"TOLERATED-{number}"
        at, *rest = field.split(".")
        (event["data"][at] if rest else event["data"])[rest[0] if rest else at] = _HERE
        text = json.dumps(event).replace(f'"{_HERE}"', literal).encode()
        found[name] = {b"data": text}
    event = document()
    event["id"], event["data"]["id"] = "tolerated-mark", "TOLERATED-MARK"
    found["a byte order mark"] = {b"data": b"\xef\xbb\xbf" + encoded(event)}
    event["id"], event["data"]["id"] = "tolerated-full", "TOLERATED-FULL"
    found["a megabyte"] = {b"data": encoded(event).ljust(_MEBIBYTE - 4)}
    return found
