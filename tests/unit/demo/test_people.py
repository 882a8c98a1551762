"""Made-up people are the same on every run, all different, and fictional."""

import re

from service.demo.people import UNUSUAL, person

PEOPLE = [person(number) for number in range(1, 3_001)]


def test_a_number_is_always_the_same_person() -> None:
    assert [person(number) for number in range(1, 3_001)] == PEOPLE
    assert PEOPLE[1].name == "Lin O'Brien"
    assert PEOPLE[1].email == "lin.obrien.2@example.net"


def test_emails_are_unique_plain_and_undeliverable() -> None:
    emails = [who.email for who in PEOPLE] + [person(n, "-a").email for n in range(1, 3_001)]
    assert len(set(emails)) == len(emails)
    mailbox = re.compile(r"[a-z]+(\.[a-z]+)?\.\d+(-a)?@example\.(com|org|net)")
    assert [email for email in emails if not mailbox.fullmatch(email)] == []
    assert max(len(email.partition("@")[0]) for email in emails) <= 64


def test_telephones_are_fictional_and_some_people_have_none() -> None:
    phone = re.compile(r"\(\d{3}\) 555-01\d\d")
    assert all(phone.fullmatch(who.phone) for who in PEOPLE if who.phone)
    assert sum(not who.phone for who in PEOPLE) == 300


def test_addresses_are_complete() -> None:
    for who in PEOPLE:
        assert set(who.address) == {"street", "city", "state", "zip", "country"}
        assert re.fullmatch(r"\d{5}", who.address["zip"])
        assert re.fullmatch(r"[A-Z]{2}", who.address["state"])


def test_every_unusual_name_is_used() -> None:
    assert {name for name, _ in UNUSUAL} <= {who.name for who in PEOPLE[:2_357]}
