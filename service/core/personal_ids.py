"""Ids that hold an identifier of a person, such as an order id made of an e-mail and a number.

When the person is erased, a pseudonym takes the place of such an id. It is computed from the id and
a secret salt. So an event that arrives again still finds its order, and nobody can tell from the
pseudonym whose order it was.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from service.core.decodings import readings
from service.core.identifiers import email_spellings

PREFIX = "erased-"
DIGEST_DIGITS = 32
"""Hexadecimal digits of the hash: 128 bits."""

LIKE_AN_EMAIL = "@|%40"
"""A regular expression, for Python and Postgres alike, that finds ids that may hold an e-mail."""
_EMAIL = re.compile(r"[\w.+-]{1,64}@[\w-]{1,64}\.\w")
_HEX = re.compile(r"(?:[0-9A-Fa-f]{2}){6,}")
_LEAST_DIGITS = 7
"""A phone with fewer digits is part of many numbers."""
_LEAST_LETTERS = 5
"""A name with fewer letters is part of many words."""


class Identifiers(NamedTuple):
    """What a person is known by, now and before corrections."""

    email_keys: Sequence[str]
    """In their normal form. The first one is their own e-mail, if they have one."""
    phones: Sequence[str]
    names: Sequence[str]
    keys: Sequence[str] = ()
    """All identifiers that mean them, such as ``external:/shop#5512``."""
    customers: Sequence[int] = ()
    """The number of the customer, then those of the customers who were merged into them."""

    @property
    def emails(self) -> list[str]:
        """The e-mails, each in all spellings that have one normal form."""
        return [each for email in self.email_keys for each in email_spellings(email)]


def pseudonym(id_: str, salt: bytes) -> str:
    """Return the text that takes the place of an id."""
    digest = hashlib.sha256(salt + id_.encode()).hexdigest()
    return PREFIX + digest[:DIGEST_DIGITS]


def looks_personal(id_: str) -> bool:
    """Return True if an id seems to hold an e-mail, whoever's it is."""
    return re.search(LIKE_AN_EMAIL, id_) is not None


def holds_email(id_: str) -> bool:
    """Return True if an id holds an e-mail, in whatever way it is encoded."""
    return any(_EMAIL.search(text) for text in _readings(id_))


def holds_any(id_: str, identifiers: Identifiers) -> bool:
    """Return True if an id holds an e-mail, a phone or a full name of the person.

    It may be written in upper case, percent-encoded, with JSON escapes, in base64 or in
    hexadecimal. Phones are compared by their digits, names by their letters and digits.
    """
    emails = [spelling.casefold() for spelling in identifiers.emails]
    phones = [text for text in map(_digits, identifiers.phones) if len(text) >= _LEAST_DIGITS]
    names = [text for text in map(_letters, identifiers.names) if len(text) >= _LEAST_LETTERS]
    for text in _readings(id_):
        folded = unicodedata.normalize("NFC", text).casefold()
        digits, letters = _digits(text), _letters(text)
        if (
            any(email in folded for email in emails)
            or any(phone in digits for phone in phones)
            or any(name in letters for name in names)
        ):
            return True
    return False


def _digits(text: str) -> str:
    return "".join(character for character in text if character.isdigit())


def _letters(text: str) -> str:
    return "".join(character for character in text.casefold() if character.isalnum())


def _readings(id_: str) -> Iterator[str]:
    """Yield an id as it is written, and decoded in each way that it may be encoded."""
    yield from readings(id_.encode(errors="replace"))
    for run in _HEX.findall(id_):
        yield bytes.fromhex(run).decode(errors="replace")
