"""Normal forms of identifiers: equal people have equal keys, and a key is its own normal form."""

import re
import unicodedata
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from service.core.identifiers import (
    IdentifierKind,
    customer_identifier,
    email_identifier,
    email_key,
    email_spellings,
    external_identifier,
    kind_of,
    known_country,
    phone_identifier,
    phone_key,
    source_and_id,
    value_of,
    written_email,
)

UNICODE, ASCII = "jane@bücher.example", "jane@xn--bcher-kva.example"


@pytest.mark.parametrize(
    "text",
    [
        "jane@example.com",
        "JANE@Example.COM",
        "\ufeffjane@example.com",
        "jane@example.com\u200b",
        "ja\u00adne@exam\u2060ple.com",
        "\u202ajane@example.com\u202c",
        "\u00a0jane@example.com\u3000",
        "<jane@example.com>",
        "Jane Smith <jane@example.com>",
        '"Smith, Jane" <jane@example.com>',
        '"jane@example.com"',
        "'jane@example.com'",
        "mailto:jane@example.com",
        "MAILTO:jane%40example.com?subject=Hello",
        " <mailto:jane@example.com> ",
        "jane@example.com.",
        "jane@example.com,",
        "jane@example.com; ",
    ],
)
def test_an_address_is_found_in_what_people_put_around_it(text: str) -> None:
    assert email_key(text) == "jane@example.com"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (UNICODE, ASCII),
        (ASCII, ASCII),
        ("jane@bu\u0308cher.example", ASCII),
        ("Jane@BÜCHER.Example。", ASCII),
        ("ÜNÏ@x.org", "ünï@x.org"),
        ("u\u0308ni\u0308@x.org", "ünï@x.org"),
        ("ΣΊΣΥΦΟΣ@x.org", "σίσυφοσ@x.org"),
        ("straße@faß.de", "strasse@xn--fa-hia.de"),
        ("Ꭰ@x.org", "ꭰ@x.org"),
        ("用户@例子.广告", "用户@xn--fsqu00a.xn--4rr70v"),
        ('"jane"@x.org', "jane@x.org"),
    ],
)
def test_an_unusual_address_has_one_normal_form(text: str, key: str) -> None:
    assert email_key(text) == key


@pytest.mark.parametrize(
    "text",
    [
        "a..b@x.org",
        ".a.@x.org",
        "jane+news@x.org",
        "o'hara@x.org",
        "{a}|b~!#$%&*/=?^`@x.org",
        "till@localhost",
        "a@x_y.org",
        "a@-x-.org",
        "a@127.0.0.1",
        "a@shop.local",
        "a@shop.invalid",
        "ä@shop.test",
        "ä@shop.local",
    ],
)
def test_what_shops_really_have_is_kept_as_it_is(text: str) -> None:
    assert email_key(text) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "jane", "@", "jane@", "@x.org", "a@b@c", "a@@b", "a b@x.org", "a@x y.org"),
        *("a@x\x01", "a\x00@x.org", "<>", "<@>", "mailto:", "mailto:a%00@x.org", "<a@b.org> x"),
        *("a@x.org <b@x.org>", "a@x.org, b@x.org", "<a@x.org> <b@x.org>", "a@x..org", "a@.org"),
        *("ü@i❤.ws", "ü@x..org", "\u0301a@x.org", "a@" + "x" * 64, "x" * 321 + "@x.org"),
        "ü" * 10_000 + "@x.org",
    ],
)
def test_what_is_no_address_or_several_has_no_key(text: str) -> None:
    assert email_key(text) is None
    assert written_email(text) is None


_letters = st.characters(categories=["Ll", "Lu", "Lo", "Nd", "Mn"])
_mailboxes = st.text(
    _letters | st.sampled_from(".+-_'ßİſςΣǅᎠꭰ\u0301\u0345"), min_size=1, max_size=12
)
_labels = st.text(st.sampled_from("abcxyz0189-üßñéλж日本あ한"), min_size=1, max_size=8)
_domains = st.lists(_labels, min_size=1, max_size=3).map(".".join)
addresses = st.builds("{}@{}".format, _mailboxes, _domains)

SPELLINGS: list[Callable[[str], str]] = [
    lambda text: unicodedata.normalize("NFC", text),
    lambda text: unicodedata.normalize("NFD", text),
    lambda text: f" {text}\u00a0",
    lambda text: f"{text}.",
    lambda text: f"\ufeff{text}\u200b",
    lambda text: text.replace("@", "\u2060@\u00ad"),
    lambda text: "@".join((text.partition("@")[0].casefold(), text.partition("@")[2])),
]
WRAPPERS: list[Callable[[str], str]] = [
    lambda text: text,
    lambda text: f"<{text}>",
    lambda text: f"Jane <{text}>",
    lambda text: f"mailto:{quote(text)}",
    lambda text: f"<mailto:{quote(text)}?subject=Hello>",
]


@given(addresses | st.text(max_size=30))
@example("ΐ@x.org")
@example("ŉ@x.org")
@example("\u1e9e@x.org")
def test_a_key_is_its_own_normal_form(text: str) -> None:
    key = email_key(text)
    assume(key is not None)
    assert key is not None
    assert email_key(key) == key
    assert key == key.lower() == unicodedata.normalize("NFC", key)
    assert key.partition("@")[2].isascii()


@given(addresses, st.lists(st.sampled_from(SPELLINGS), max_size=3), st.sampled_from(WRAPPERS))
def test_equal_people_have_equal_keys(
    address: str, changes: list[Callable[[str], str]], wrapper: Callable[[str], str]
) -> None:
    key = email_key(address)
    assume(key is not None)
    for change in changes:
        address = change(address)
    assert email_key(wrapper(address)) == key


@given(
    st.from_regex(r"[A-Za-z0-9.+_-]{1,10}@[A-Za-z0-9-]{1,8}(\.[A-Za-z]{2,6}){0,2}", fullmatch=True)
)
def test_case_makes_no_difference_and_nothing_else_changes(address: str) -> None:
    assert email_key(address.upper()) == email_key(address.swapcase()) == address.lower()


@given(_domains)
def test_a_domain_in_unicode_and_in_ascii_is_the_same(domain: str) -> None:
    key = email_key(f"jane@{domain}")
    assume(key is not None)
    assert key is not None
    assert {email_key(spelling) for spelling in email_spellings(key)} == {key}


def test_the_spellings_of_an_email_are_its_key_and_what_people_read() -> None:
    assert email_spellings(ASCII) == (ASCII, UNICODE)
    assert email_spellings("jane@mail.xn--bcher-kva.example")[1] == "jane@mail.bücher.example"
    assert email_spellings("jane@xn--x.org") == ("jane@xn--x.org",)
    assert email_spellings("xn--a@x.org") == ("xn--a@x.org",)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (" Jane.Smith@X.org ", "Jane.Smith@X.org"),
        ("ÜNÏ@X.org", "ÜNÏ@X.org"),
        ("<Jane@X.org>", "jane@x.org"),
        ("Jane@Bücher.example", ASCII),
    ],
)
def test_a_person_sees_the_case_that_they_typed(text: str, written: str) -> None:
    assert written_email(text) == written


@given(addresses)
def test_a_typed_email_in_lower_case_is_its_key(text: str) -> None:
    written = written_email(text)
    assert (written and written.lower()) == email_key(text)


# --- Phones


@pytest.mark.parametrize(
    ("text", "country", "key"),
    [
        ("+880 1711-000001", None, "+8801711000001"),
        ("+8801711000001", "US", "+8801711000001"),
        ("01711-000001", "BD", "+8801711000001"),
        ("1711000001", "BD", "+8801711000001"),
        ("008801711000001", "BD", "+8801711000001"),
        ("'+46 70 123 45 60", None, "+46701234560"),
        ("\u202a+1 (512) 555-5678\u202c", None, "+15125555678"),
        ("tel:+1-512-555-5678", None, "+15125555678"),
        ("+44 (0)20 7946 0018", None, "+442079460018"),
        ("+٣٢٤٧١١٢٣٤٥٦", None, "+32471123456"),
        ("'+88484159437179", None, "+88484159437179"),  # no country has this code
    ],
)
def test_a_phone_has_one_normal_form(text: str, country: str | None, key: str) -> None:
    assert phone_key(text, country) == key


@pytest.mark.parametrize(
    ("text", "country"),
    [
        ("01711-000001", None),
        ("555-5678", "US"),  # somebody else has the same number in another town
        ("+1 512 555 5678 x12", "US"),
        ("", "US"),
        ("none", "US"),
        ("+1", "US"),
        ("12345", "US"),
        ("(555) 555-5555", "US"),
        ("(11) 1111-1111", "BR"),
        ("+1 512 000 0000", None),
        ("1234567890", "US"),
        ("+9876543210", None),
        ("+0000000000", None),
        ("+1234567890123456", None),
        ("+999 ask Jane 123456", None),
        ("+8801711000001, +8801711000002", None),
        ("+" + "1" * 1000, None),
    ],
)
def test_what_is_no_phone_or_not_one_persons_has_no_key(text: str, country: str | None) -> None:
    assert phone_key(text, country) is None


_countries = st.sampled_from([None, "BD", "TR", "US", "GB", "IT", "BR"])
_prefixes = st.sampled_from(["+", "+880", "+1 ", "+39 0", "+44 (0)", "0", "00", "00 880", "", "'+"])
_numbers = st.builds("{}{}".format, _prefixes, st.text("0123456789 -", min_size=8, max_size=12))


@given(_numbers, _countries, _countries)
@example("+5531234567890", None, "BR")
def test_a_phone_is_its_own_normal_form_in_every_country(
    text: str, country: str | None, other: str | None
) -> None:
    key = phone_key(text, country)
    assume(key is not None)
    assert key is not None
    assert re.fullmatch(r"\+[1-9][0-9]{7,14}", key)
    assert phone_key(key, other) == key


@given(st.integers(10**8, 10**9 - 1), st.lists(st.sampled_from(" -.()\u200e"), max_size=6))
def test_how_a_number_is_set_out_makes_no_difference(number: int, between: list[str]) -> None:
    digits = list(f"+8801{number}")
    key = phone_key("".join(digits), None)
    assume(key is not None)
    for place, separator in enumerate(between):
        digits.insert(5 + 2 * place, separator)
    assert phone_key("".join(digits), "US") == key
    assert phone_key(f"01{number}", "BD") == key


def test_a_country_is_two_letters_of_iso_3166() -> None:
    assert known_country("BD")
    assert not any(map(known_country, ["", "bd", "XX", "UK", "Bangladesh", "001"]))


# --- Identifiers as texts


def test_an_identifier_is_its_kind_a_colon_and_its_value() -> None:
    assert customer_identifier(1001) == "customer:1001"
    assert email_identifier("jane@example.com") == "email:jane@example.com"
    assert phone_identifier("+32471123456") == "phone:+32471123456"
    assert external_identifier(" /order-management ", " 5512 ") == "external:/order-management#5512"
    assert kind_of("external:https://shop#a:b") is IdentifierKind.EXTERNAL
    assert value_of("external:https://shop#a:b") == "https://shop#a:b"


@given(st.text(), st.text())
@example("https://shop/#a%23", "#1%")
def test_source_and_id_are_read_back(source: str, id_: str) -> None:
    assert source_and_id(external_identifier(source, id_)) == (source.strip(), id_.strip())
