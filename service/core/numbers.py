"""Whole numbers in text that somebody else wrote: a query, a path, a form, a file."""

BIGINT_DIGITS = 18
"""A number with this many digits always fits into PostgreSQL's bigint."""


def whole_number(text: str, digits: int = BIGINT_DIGITS) -> int | None:
    """Return the number if the text is nothing but ASCII digits, at most ``digits``; else None."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= digits else None


def number_of(count: int, one: str, many: str) -> str:
    """Return a number and the form of the words that fits it: "1 line", "2,000 lines"."""
    return f"{count:,} {one if count == 1 else many}"
