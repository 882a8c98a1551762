"""Made-up people. The same number is always the same person, and none of them exists.

E-mail addresses are in the domains that are reserved for examples; telephone numbers are in the
range 555-0100 to 555-0199, which is reserved for fiction.
"""

import unicodedata
from random import Random
from typing import NamedTuple

from service.demo.packaged import rows

GIVEN = tuple(given for (given,) in rows("given"))
FAMILY = tuple(family for (family,) in rows("family"))
STREETS = tuple(street for (street,) in rows("streets"))
CITIES = tuple((city, state, zip_, area) for city, state, zip_, area in rows("cities"))
"""City, state, the start of its zip codes, and its telephone area code."""
UNUSUAL = tuple((name, mailbox) for name, mailbox in rows("unusual"))
"""Names that lists, search and exports must cope with: other scripts, markup, great length."""
UNUSUAL_EVERY = 61
FLAT_SHARE = 0.25


class Person(NamedTuple):
    """A person who orders. ``address`` has the keys of an order's shipping address."""

    name: str
    email: str
    phone: str
    address: dict[str, str]


def person(number: int, suffix: str = "") -> Person:
    """Return the person with this number, always the same.

    An e-mail is unique per number and suffix, so the same numbers with a suffix are other people.
    Every tenth person has no phone number.
    """
    rng = Random(f"person {number} {suffix}")
    given, family = rng.choice(GIVEN), rng.choice(FAMILY)
    name, mailbox = f"{given} {family}", f"{_ascii(given)}.{_ascii(family)}"
    if number % UNUSUAL_EVERY == 0:
        name, mailbox = UNUSUAL[number // UNUSUAL_EVERY % len(UNUSUAL)]
    city, state, zip_prefix, area = rng.choice(CITIES)
    street = f"{rng.randint(1, 9899)} {rng.choice(STREETS)}"
    if rng.random() < FLAT_SHARE:
        street += f", Apt {rng.randint(1, 40)}"
    return Person(
        name,
        f"{mailbox}.{number}{suffix}@example.{rng.choice(('com', 'org', 'net'))}",
        f"({area}) 555-01{rng.randrange(100):02}" if number % 10 else "",
        {
            "street": street,
            "city": city,
            "state": state,
            "zip": f"{zip_prefix}{rng.randint(1, 49):02}",
            "country": "US",
        },
    )


def _ascii(name: str) -> str:
    """Return a Latin name in the letters that an e-mail address has."""
    plain = unicodedata.normalize("NFKD", name.lower())
    return "".join(letter for letter in plain if letter.isascii() and letter.isalpha())
