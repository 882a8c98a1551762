"""Ids that hold what names a person are recognised, and pseudonyms tell nothing."""

import base64

import pytest

from service.core.personal_ids import (
    Identifiers,
    holds_any,
    holds_email,
    looks_personal,
    pseudonym,
)

JANE = Identifiers(["jane@example.com", "j.smith@example.org"], ["+1 512 555-5678"], ["Jane Smith"])


@pytest.mark.parametrize(
    "id_",
    [
        "jane@example.com",
        "JANE@example.com-17",
        "2026/jane%40example.com/1",
        "j.smith@example.org#3",
        "ORD-Jane_Smith-7",
        "janesmith8",
        "ORD-15125555678-1",
        "+1 (512) 555-5678",
        base64.b64encode(b"jane@example.com").decode(),
        base64.urlsafe_b64encode(b"?>shop:jane@example.com").decode().rstrip("="),
        "x-" + b"jane@example.com".hex(),
    ],
)
def test_an_id_made_of_what_names_the_person_is_recognised(id_: str) -> None:
    assert holds_any(id_, JANE)


@pytest.mark.parametrize(
    "id_",
    ["ORD-1001", "mary@example.com-1", "5f2c9f1e-8f0d-4a1a-9a3e-0000555567", "Jane-1", "5678"],
)
def test_an_id_of_others_is_not(id_: str) -> None:
    assert not holds_any(id_, JANE)


def test_an_id_with_a_domain_in_unicode_is_recognised() -> None:
    person = Identifiers(["jane@xn--bcher-kva.example"], [], [])
    assert holds_any("web-JANE@bücher.example-1", person)
    assert holds_any("web-jane%40xn--bcher-kva.example-1", person)


def test_short_names_and_phones_are_part_of_too_many_ids() -> None:
    short = Identifiers([], ["112"], ["Bo"])
    assert not holds_any("BOX-112", short)


def test_an_id_looks_personal_if_it_may_hold_an_email() -> None:
    assert looks_personal("shop@x")
    assert looks_personal("shop%40x")
    assert not looks_personal("ORD-1001")


def test_an_email_in_an_id_is_found_in_base64() -> None:
    assert holds_email(base64.b64encode(b"any.body@example.com").decode())
    assert not holds_email("5f2c9f1e-8f0d-4a1a-9a3e-000000001001")


def test_a_pseudonym_depends_on_the_id_and_the_salt_only() -> None:
    one = pseudonym("jane@example.com-1", b"salt")
    assert one == pseudonym("jane@example.com-1", b"salt")
    assert len({one, pseudonym("jane@example.com-2", b"salt"), pseudonym("x", b"other")}) == 3
    assert one.startswith("erased-")
    assert not looks_personal(one)
    assert len(one) <= 200
