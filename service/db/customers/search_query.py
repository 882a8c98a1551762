"""What people ask for, as conditions on the texts that searches read.

Each word must be found somewhere, in any order. Words in double quotes stay together. A number is
found however it is written, and is an order's or a customer's id as well.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from service.core.customer_ids import customer_number
from service.core.identifiers import customer_identifier, email_key
from service.core.numbers import whole_number

_SHORTEST_INDEXED = 3  # the trigram index cannot help with shorter terms
_SHORTEST_PHONE = 6
_LONGEST_ORDER_ID = 255
_QUOTES = str.maketrans("\u201c\u201d\u201e\u201f\u00ab\u00bb", '""""""')
_PARTS = re.compile(r'(?<!\S)"(?P<phrase>[^"]*)"(?!\S)|(?P<word>\S+)')
_NUMBER = re.compile(r"[+()./-]*\d[\d+()./-]*|\+")
_IN_WORDS = re.compile(r"[^\W_]+")
_TAGGED = """SELECT ct.customer_id FROM tags t JOIN customer_tags ct ON ct.tag_id = t.id
WHERE search_folded(t.name) LIKE search_pattern({})"""


@dataclass(frozen=True)
class Term:
    """A word or a phrase. It must be found somewhere in the text."""

    written: str
    is_phrase: bool = False

    @property
    def is_number(self) -> bool:
        """Whether it has digits and nothing but what people write between them."""
        return not self.is_phrase and _NUMBER.fullmatch(self.written) is not None

    @property
    def indexed(self) -> bool:
        """Whether the trigram index can help to find it."""
        parts = _IN_WORDS.findall(_digits(self.written) if self.is_number else self.written)
        return any(len(part) >= _SHORTEST_INDEXED for part in parts)


@dataclass(frozen=True)
class Phone:
    """Numbers side by side, as in a phone with blanks. Together they are one number."""

    parts: tuple[Term, ...]


Asked = tuple[Term | Phone, ...]


def parse(search: str) -> Asked:
    """Return the words, phrases and phones that a search asks for; nothing twice."""
    asked: list[Term | Phone] = []
    numbers: list[Term] = []
    for term, ended in _terms(search):
        if term.is_number:
            numbers.append(term)
        else:
            asked.append(term)
        if ended or not term.is_number:
            asked += _together(numbers)
            numbers = []
    return tuple(dict.fromkeys(asked + _together(numbers)))


def _terms(search: str) -> Iterator[tuple[Term, bool]]:
    """Yield each term, and whether a comma ends it: numbers on both sides of it are two."""
    for part in _PARTS.finditer(search.translate(_QUOTES)):
        if part["word"] is None:
            if phrase := part["phrase"].strip():
                yield Term(phrase, is_phrase=True), True
        else:
            bare = part["word"].rstrip(",;")
            yield Term(bare or part["word"]), bare != part["word"]


def _together(numbers: list[Term]) -> list[Term | Phone]:
    digits = sum(len(_digits(number.written)) for number in numbers)
    if len(numbers) > 1 and digits >= _SHORTEST_PHONE:
        return [Phone(tuple(numbers))]
    return list(numbers)


def _digits(written: str) -> str:
    return "".join(each for each in written if each.isdecimal())


class _Conditions:
    """Composes conditions on ``customer_search s``, and collects their parameters."""

    def __init__(self) -> None:
        self.parameters: dict[str, Any] = {}

    def in_text(self, term: Term | Phone) -> str:
        """Return the condition that the text has it."""
        if isinstance(term, Term):
            return self._term_in_text(term)
        written = " ".join(part.written for part in term.parts)
        as_one = f"s.searched LIKE ANY(search_number_patterns({self._named(written)}))"
        if not all(part.indexed for part in term.parts):
            return as_one
        # Perhaps they are two numbers, such as a postal code and a part of a phone.
        return f"({as_one} OR {' AND '.join(map(self._term_in_text, term.parts))})"

    def _term_in_text(self, term: Term) -> str:
        name = self._named(term.written)
        # A term too short for a trigram would make Postgres read the whole index and the table as
        # well. Another collation than the index's own keeps Postgres from using the index.
        searched = "s.searched" if term.indexed else 's.searched COLLATE "C"'
        if term.is_number:
            return f"{searched} LIKE ANY(search_number_patterns({name}))"
        local, at, _ = term.written.partition("@")
        if at and term.written.isascii() and Term(local).indexed:
            # Many share a domain. The index reads a list of customers for each three letters, and
            # those of what stands before the @ are enough to find few.
            whole = f's.searched COLLATE "C" LIKE search_pattern({name})'
            return f"({searched} LIKE search_pattern({self._named(local + at)}) AND {whole})"
        key = None if term.written.isascii() else email_key(term.written)
        if key is None:
            return f"{searched} LIKE search_pattern({name})"
        # Its domain may be written in Unicode.
        other = f"{searched} LIKE search_pattern({self._named(key)})"
        return f"({searched} LIKE search_pattern({name}) OR {other})"

    def beside(self, term: Term | Phone) -> str:
        """Return the condition that the customer has it, and not in the text.

        That is a tag, an order's id, or their own: a text that has these would be written anew with
        each order.
        """
        if isinstance(term, Phone):
            ways = [self.beside(part) for part in term.parts]
            return f"({' AND '.join(ways)})"
        name = self._named(term.written)
        queries = [_TAGGED.format(name)]
        if any(each.isdecimal() for each in term.written):
            queries += self._by_id(term, name)
        return f"s.customer_id = ANY(ARRAY({' UNION ALL '.join(queries)}))"

    def _by_id(self, term: Term, name: str) -> Iterator[str]:
        """Yield queries for the customers whom an id means."""
        if len(term.written) <= _LONGEST_ORDER_ID:
            yield (
                "SELECT o.customer_id FROM orders o"
                f" WHERE o.id = ANY(search_order_ids({name})) AND o.customer_id IS NOT NULL"
            )
        number = customer_number(term.written.upper())
        if number is None:
            number = whole_number(term.written)
        if number is not None:
            merged = self._named(customer_identifier(number))
            yield f"SELECT CAST({self._named(number)} AS bigint)"
            yield f"SELECT i.customer_id FROM identifiers i WHERE i.identifier = {merged}"

    def _named(self, value: str | int) -> str:
        name = f"search_{len(self.parameters)}"
        self.parameters[name] = value
        return f":{name}"


def search_condition(search: str) -> tuple[str, dict[str, Any]]:
    """Return the condition on a row of ``customer_search s`` and its parameters.

    The search asks for something: `parse` returns at least one term.
    """
    conditions = _Conditions()
    terms = parse(search)
    texts = [conditions.in_text(term) for term in terms]
    others = [conditions.beside(term) for term in terms]
    # Nearly always, the texts have all of it: one look at the trigram index finds these. Others are
    # found by what they have beside, so that this index need not be asked for each word alone.
    each = " AND ".join(f"({one} OR {other})" for one, other in zip(texts, others, strict=True))
    if len(terms) == 1:
        return each, conditions.parameters
    condition = f"({' AND '.join(texts)} OR ({' OR '.join(others)}) AND {each})"
    return condition, conditions.parameters
