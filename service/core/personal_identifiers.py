"""Find what names a person: in bytes of any form, and in what is stored about a customer.

Both are written in the same normal form, so that they can be compared, or their hashes can. A
trait is a text such as ``email:jane@example.com``. It matches too much rather than too little: a
telephone number is compared by its last digits, a name without accents and in any order of words.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import chain, islice, pairwise
from typing import NamedTuple

from service.core.decodings import readings
from service.core.identifiers import LONGEST_EMAIL, email_key, email_spellings

MOST_IDENTIFIERS = 20_000
"""Nobody's order names more people than this, so more are not looked for."""
_MOST_HINTS = 2000
_FEWEST_DIGITS = 5
_COMPARED_DIGITS = 9
"""The digits of a telephone number that are the same with and without a country code."""

_AROUND = re.compile(r"""[\s\x00-\x1f\ufffd"<>()\[\]{},;:\\|=&?#/`“”«»]""")
"""What ends an e-mail within a text."""
_DOMAIN = re.compile(r"[\w-]{1,63}(?:\.[\w-]{1,63}){0,5}\.[^\W\d_]{2,63}")
_SEPARATOR = re.compile(r"[-_+.#!*]")
_PUNCTUATION = ".,!?'*_-"
_QUOTE = '"'
_CUSTOMER = re.compile(r"cust-(\d{1,18})(?!\d)")
_DIGITS = re.compile(r"(?<![\w.-])\d(?:[\s().\-/]{0,2}\d){6,14}(?!\w)")
"""What is written like a telephone number, wherever it stands."""
_PAIR = re.compile(
    r"(?<![\w-])([\w-]{1,40}+)[\"']?\s{0,5}+[:=>]\s{0,5}+"
    r"(?:\"((?:[^\"\\]|\\.){0,200}+)|'((?:[^'\\]|\\.){0,200}+)|([^\"'<>&;,\n{}\[\]]{1,100}+))"
)
"""A key and its value, as in JSON, forms and XML."""
_KEYS = re.compile(
    r"(?P<phone>phone|mobile|tel|cell|fax|sms)"
    r"|(?P<first>(?:first|given|fore)[_-]?name)|(?P<last>(?:last|family|sur)[_-]?name)"
    r"|(?P<name>name|recipient|contact|attention|buyer)"
    r"|(?P<id>id$|subject|order|number|reference)"
)
_WORD = r"[^\W\d_]++(?:['’.-]{1,2}[^\W\d_]++){0,4}+\.?"
_WORDS = re.compile(rf"(?<![^\W_]){_WORD}(?:[ +]{{1,3}}{_WORD}){{1,7}}+")
_LONGEST_NAME = 5
"""In words."""
_ENDS = frozenset(['"', "'", *"<>&=;,|\t\r\n{}[]:()", ""])
_SIMPLE_WORD = re.compile(r"[^\W_]+")


class Traits(NamedTuple):
    """What names a person in a document, or what names a customer."""

    identifiers: frozenset[str]
    """E-mails, telephone numbers and customer ids: each means one person."""
    hints: frozenset[str]
    """Names, ids of orders, and numbers that may be telephone numbers: several people, or other
    things, may have the same."""
    complete: bool = True
    """False if there were more identifiers than are looked for."""


def names(found: Traits, person: Traits) -> bool:
    """Return whether a document names a person.

    It does if it has one of their e-mails, telephone numbers or customer ids. Their name, or an
    order of theirs, is enough if the document has nobody's e-mail, telephone number or customer id.
    """
    if person.identifiers & (found.identifiers | found.hints):
        return True
    return not found.identifiers and bool(person.hints & found.hints)


def of_person(
    *customer_ids: int,
    emails: Iterable[str],
    phones: Iterable[str | None] = (),
    names: Iterable[str | None] = (),
    ids: Iterable[str] = (),
) -> Traits:
    """Return the traits by which a document names a customer.

    ``customer_ids`` are their number and those of customers who were merged into them, ``ids`` are
    those of their orders and what shops call them.
    """
    identifiers = {
        *(f"customer:{number}" for number in customer_ids),
        *chain.from_iterable(map(_spellings, emails)),
        *map(_phone, phones),
    }
    hints = {*map(_name, names), *map(_id, ids)}
    return Traits(frozenset(identifiers - {None}), frozenset(hints - {None}))  # type: ignore[arg-type]


def find(parts: Iterable[bytes]) -> Traits:
    """Return the traits in a document, such as names and values of an entry.

    They are found as they are, in JSON's escapes, percent-encoded, as HTML and in base64, also in
    one another. The time it takes grows with the size, whatever the bytes are.
    """
    identifiers: set[str] = set()
    hints: set[str] = set()
    weaker: set[str] = set()
    for text in readings(b"\n".join(parts)):
        normal = text if text.isascii() else unicodedata.normalize("NFKC", text)
        lowered = normal.lower()
        keyed = _Keyed(lowered)
        for trait in chain(_emails(lowered), _customers(lowered), keyed.phones):
            identifiers.add(trait)
            if len(identifiers) > MOST_IDENTIFIERS:
                return Traits(frozenset(identifiers), frozenset(hints), complete=False)
        _add(hints, chain(keyed.ids, keyed.emails_in_ids, keyed.names))
        _add(weaker, chain(_digits(lowered), _free_names(normal)))
    hints |= set(islice(weaker - hints, max(0, _MOST_HINTS - len(hints))))
    return Traits(frozenset(identifiers), frozenset(hints - identifiers))


def _add(known: set[str], traits: Iterable[str]) -> None:
    for trait in traits:
        if len(known) >= _MOST_HINTS:
            return
        known.add(trait)


@lru_cache(4096)
def _email(address: str) -> str:
    plain = unicodedata.normalize("NFKC", address.strip()).lower()
    return f"email:{plain if plain.isascii() else email_key(plain) or plain}"


def _spellings(address: str) -> Iterator[str]:
    """Yield the traits of an e-mail: documents that were read long ago may have the second one."""
    yield _email(address)
    for spelling in email_spellings(address)[1:]:
        yield f"email:{unicodedata.normalize('NFKC', spelling)}"


def _phone(text: str | None) -> str | None:
    """Return the trait of a telephone number; None if it has too few digits. Words end it."""
    digits = re.sub(r"\D", "", re.split(r"[^\W\d]", text or "", maxsplit=1)[0]).lstrip("0")
    return f"phone:{digits[-_COMPARED_DIGITS:]}" if len(digits) >= _FEWEST_DIGITS else None


@lru_cache(4096)  # texts repeat themselves, above all those that are meant to cost time
def _name(text: str | None) -> str | None:
    decomposed = unicodedata.normalize("NFKD", text or "")
    plain = "".join(each for each in decomposed if not unicodedata.combining(each)).casefold()
    words = sorted(_SIMPLE_WORD.findall(plain))
    return f"name:{' '.join(words)}" if words else None


def _id(text: str) -> str:
    return f"id:{text.strip().lower()}"


def _emails(text: str) -> Iterator[str]:
    for before, after in pairwise(text.split("@")):
        left, right = before[-LONGEST_EMAIL:], after[:LONGEST_EMAIL]
        local, domain = _AROUND.split(left)[-1], _AROUND.split(right, maxsplit=1)[0]
        if local and domain:
            yield _email(f"{local}@{domain}")
            yield _email(f"{local.lstrip(_PUNCTUATION)}@{domain.rstrip(_PUNCTUATION)}")
        # An e-mail may contain nearly any character, if it is a value of its own.
        whole = f"{left.rpartition(_QUOTE)[2]}@{right.partition(_QUOTE)[0]}"
        if not re.search(r"\s", whole):
            yield _email(whole)


def _emails_within(text: str) -> Iterator[str]:
    """Yield e-mails that are a part of an id, such as ``web-jane@example.com-1``.

    It yields other texts, too, because an id does not tell where an e-mail begins.
    """
    for before, after in pairwise(text.split("@")):
        local, domain = _AROUND.split(before[-LONGEST_EMAIL:])[-1], _DOMAIN.match(after)
        if domain:
            starts = (0, *(separator.end() for separator in _SEPARATOR.finditer(local)))
            yield from (_email(f"{local[at:]}@{domain[0]}") for at in starts if local[at:])


def _customers(text: str) -> Iterator[str]:
    for match in _CUSTOMER.finditer(text):
        if not text[match.start() - 1 : match.start()].isalnum():
            yield f"customer:{int(match[1])}"


def _digits(text: str) -> Iterator[str]:
    return filter(None, (_phone(match[0]) for match in _DIGITS.finditer(text)))


class _Keyed:
    """The telephone numbers, ids and names of a text, by the keys that they stand under."""

    def __init__(self, text: str) -> None:
        values = defaultdict[str, list[str]](list)
        for match in _PAIR.finditer(text):
            if kind := _kind_of(match[1]):
                values[kind].append(match[2] or match[3] or match[4] or "")
        pairs = zip(values["first"], values["last"], strict=False)
        whole = (f"{first} {last}" for first, last in pairs)
        self.phones = filter(None, map(_phone, values["phone"]))
        self.ids = map(_id, filter(None, values["id"]))
        self.emails_in_ids = chain.from_iterable(map(_emails_within, values["id"]))
        self.names = filter(
            None, map(_name, chain(values["name"], whole, values["first"], values["last"]))
        )


@lru_cache(1024)
def _kind_of(key: str) -> str | None:
    match = _KEYS.search(key)
    return match and match.lastgroup


def _free_names(text: str) -> Iterator[str]:
    """Yield values of several words, and capitalized words that stand side by side."""
    for match in _WORDS.finditer(text):
        words = re.split(r"[ +]+", match[0])
        alone = (
            text[match.start() - 1 : match.start()] in _ENDS
            and text[match.end() : match.end() + 1] in _ENDS
        )
        candidates = [words] if alone and len(words) <= _LONGEST_NAME else []
        for start in range(len(words) - 1):
            run = words[start : start + 4]
            if not words[start][0].isupper():
                continue
            capitals = next((n for n, word in enumerate(run) if not word[0].isupper()), len(run))
            candidates += [run[:length] for length in range(2, capitals + 1)]
        for candidate in candidates:
            yield from filter(None, (_name(" ".join(candidate)),))
