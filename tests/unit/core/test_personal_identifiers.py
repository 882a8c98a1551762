"""Whom a document names is found in every encoding, and nobody else."""

import base64
import html
import json
import time
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.personal_identifiers import MOST_IDENTIFIERS, Traits, find, names, of_person
from tests.events import cloud_event

JANE = of_person(
    1001,
    emails=["jane.o'hara+crm@example.com", "jäne@münchen.example"],
    phones=["+1 (512) 555-5678"],
    names=["Jane Ö. Smith"],
    ids=["ORD-7"],
)


def _escaped(text: str) -> str:
    return "".join(f"\\u{unit:04x}" for unit in _utf16(text))


def _utf16(text: str) -> list[int]:
    raw = text.encode("utf-16-be")
    return [int.from_bytes(raw[at : at + 2]) for at in range(0, len(raw), 2)]


def _quoted(text: str) -> str:
    return f'{{"note": {json.dumps(text)}}}'


ENCODINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "upper case": str.upper,
    "JSON": _quoted,
    "JSON escapes": _escaped,
    "percent": lambda text: quote(text, safe=""),
    "percent, every byte": lambda text: "".join(f"%{byte:02x}" for byte in text.encode()),
    "HTML": lambda text: "".join(f"&#{ord(each)};" for each in html.escape(text)),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 for URLs": lambda text: base64.urlsafe_b64encode(text.encode()).decode().rstrip("="),
    "base64 in lines": lambda text: base64.encodebytes(b"%48s" % b"" + text.encode()).decode(),
}
CASELESS = {name: encode for name, encode in ENCODINGS.items() if name != "upper case"}

_letters = st.characters(codec="utf-8", categories=["Ll", "Nd"])
_emails = st.builds(
    "{}@{}.{}".format,
    st.text(st.one_of(_letters, st.sampled_from("._+-'")), min_size=1, max_size=20).filter(
        lambda local: local.strip("._+-'") == local
    ),
    st.text(st.sampled_from("abcdefghij0123456789"), min_size=1, max_size=20),
    st.sampled_from(["com", "example", "co.uk"]),
)


def person(**known: list[str]) -> Traits:
    return of_person(1001, **{"emails": [], **known})


@given(_emails, st.sampled_from(list(CASELESS)), st.sampled_from(list(CASELESS)))
def test_an_email_is_found_in_two_encodings_in_one_another(
    email: str, inner: str, outer: str
) -> None:
    written = ENCODINGS[outer](f"mail: {ENCODINGS[inner](f'to {email} now')} end")
    assert names(find([written.encode()]), person(emails=[email])), written


@given(_emails, st.integers(1, 3))
def test_an_email_is_found_in_json_within_json(email: str, depth: int) -> None:
    document = json.dumps({"customer": {"email": email.upper() if email.isascii() else email}})
    for _ in range(depth):
        document = json.dumps({"data": document})
    assert names(find([b"data", document.encode()]), person(emails=[email])), document


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    "trait",
    [
        "jane.o'hara+crm@example.com",
        "Jane <jäne@münchen.example>,",
        "call 512-555-5678 please",
        "(512) 555 5678",
        "+15125555678",
        "mailto:jane.o'hara+crm@example.com?subject=x",
        "see CUST-1001.",
        "for Jane Ö. Smith",
    ],
)
def test_each_trait_is_found_in_each_encoding(trait: str, encoding: str) -> None:
    assert names(find([ENCODINGS[encoding](trait).encode()]), JANE)


@pytest.mark.parametrize(
    "document",
    [
        '{"customer": {"name": "jane ö. smith"}, "shippingAddress": {"street": "1 Main St"}}',
        '{"customer": {"name": "JANE O. SMITH"}}',
        '{"customer": {"firstName": "Jane Ö.", "lastName": "Smith"}}',
        '{"shippingAddress": {"recipient": "Smith, Jane Ö."}}',
        "name=Jane+%C3%96.+Smith&total=-1",
        "<name>jane ö. smith</name>",
        "ORD-9;Jane Ö. Smith;1 Main St;78701",
        '{"data": {"id": "ORD-7", "totalAmount": "-1"}}',
        '{"subject": "ord-7"}',
        '{"customer": {"phone": 5125555678',
        '{"customer": {"mobile": "0512/555 5678"}}',
    ],
)
def test_a_name_an_order_or_a_phone_is_enough_where_nobody_else_is_named(document: str) -> None:
    assert names(find([b"data", document.encode()]), JANE)


@pytest.mark.parametrize(
    "document",
    [
        '{"customer": {"name": "Jane Ö. Smith", "email": "other@example.com"}}',
        '{"customer": {"name": "Jane Ö. Smith", "phone": "+46 70 123 45 67"}}',
        '{"customer": {"name": "Jane Ö. Smith", "id": "CUST-1002"}}',
        '{"data": {"id": "ORD-7", "customer": {"email": "other@example.com"}}}',
        '{"customer": {"name": "Jane Smith"}}',
        '{"data": {"id": "ORD-70"}}',
        '{"id": "CUST-10012", "email": "crm@example.com"}',
        '{"email": "not.jane.o\'hara+crm@example.com"}',
        '{"phone": "555-5678"}',
        "",
    ],
)
def test_somebody_else_is_not_taken_for_the_person(document: str) -> None:
    assert not names(find([b"data", document.encode()]), JANE)


@pytest.mark.parametrize(
    "written", ["jane@bücher.example", "Jane@xn--bcher-kva.example", "jane@bu\u0308cher.example"]
)
def test_a_domain_in_unicode_and_in_ascii_names_the_same_person(written: str) -> None:
    document = json.dumps({"customer": {"email": written}}).encode()
    for known in ("jane@xn--bcher-kva.example", "jane@bücher.example"):
        assert names(find([document]), person(emails=[known]))


def test_a_person_has_the_trait_that_was_stored_for_an_email_before_it_was_in_ascii() -> None:
    assert "email:jane@bücher.example" in person(emails=["jane@xn--bcher-kva.example"]).identifiers


def test_a_person_without_an_email_or_name_is_named_by_nothing() -> None:
    assert of_person(7, emails=[], phones=[None, "12"], names=[None, " ?"]) == Traits(
        frozenset({"customer:7"}), frozenset()
    )


def test_bytes_that_are_no_utf8_are_read_as_latin1() -> None:
    document = '{"customer": {"email": "jörg@example.com"}}'.encode("latin-1")
    assert names(find([document]), person(emails=["jörg@example.com"]))


def test_more_identifiers_than_any_order_has_are_not_looked_for() -> None:
    addresses = " ".join(f"{n}@example.com" for n in range(MOST_IDENTIFIERS + 10))
    found = find([addresses.encode()])
    assert not found.complete
    assert len(found.identifiers) == MOST_IDENTIFIERS + 1
    assert find([b"a@example.com"]).complete


_HOSTILE = [
    b"a@", b"@", b"x", b"phone ", b"phone:1 ", b"1", b"1 ", b"(1", b"\\", b"\\u0040", b"%40",
    b"%25", b"&amp;", b"A b ", b"Aa ", b"Aa.Aa'", b"A-", b"name:", b'name:"', b'id:"\\', b"cust-1 ",
    b"abcdefgh ", b"QUFB", b"\xff@", b"name: Aa Bb,", b"\xed\xa0\x80",
]  # fmt: skip


@pytest.mark.parametrize("piece", _HOSTILE)
def test_the_time_grows_with_the_size_whatever_the_bytes_are(piece: bytes) -> None:
    """A quadratic search would take sixteen times as long, and hours for a whole megabyte."""

    def seconds(size: int) -> float:
        content = (piece * size)[:size]
        started = time.process_time()
        find([content])
        return time.process_time() - started

    small, large = max(seconds(50_000), 0.005), seconds(800_000)
    assert large / small < 16 * 5


@given(st.lists(st.one_of(st.binary(), st.sampled_from(_HOSTILE)), max_size=20))
def test_no_bytes_are_trouble(parts: list[bytes]) -> None:
    find(parts)
    find([b"".join(parts)])


@pytest.mark.parametrize(
    "text",
    ["&#" + "1" * 5000, "\\ud83d \\ude00\\ud83d", "cust-" + "9" * 5000, "\\x", "%", "=" * 99],
)
def test_odd_texts_are_no_trouble(text: str) -> None:
    assert names(find([f"{text} CUST-1001".encode()]), JANE)


def test_a_usual_order_has_few_traits() -> None:
    document = cloud_event("ORD-1", email="a@example.com", name="Ann Lee", phone="+15125555678")
    found = find([b"data", json.dumps(document).encode()])
    assert found.identifiers == {"email:a@example.com", "phone:125555678"}
    assert {"name:ann lee", "id:ord-1"} <= found.hints
    assert len(found.hints) < 15
