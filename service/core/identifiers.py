"""The identifiers by which events name a customer, each in its normal form.

An identifier is a text: its kind, a colon and its value, as in ``email:jane@example.com``. Two
spellings of the same e-mail or phone have one normal form, so identifiers are compared as texts.
"""

import re
import unicodedata
from enum import StrEnum
from functools import lru_cache
from urllib.parse import unquote

# Libraries for unusual e-mails and for phones are imported where they are called: most shops'
# events need neither, and each takes memory and time at the start of a process.


class IdentifierKind(StrEnum):
    """What an identifier is. The values are stored."""

    EMAIL = "email"
    EXTERNAL = "external"
    """What another system calls the customer, such as the number of a shop's account."""
    PHONE = "phone"
    CUSTOMER = "customer"
    """A customer's number of ours."""


_KINDS = {str(kind): kind for kind in IdentifierKind}


def kind_of(identifier: str) -> IdentifierKind:
    """Return what stands before the first colon."""
    return _KINDS[identifier.partition(":")[0]]


def value_of(identifier: str) -> str:
    """Return what stands behind the first colon."""
    return identifier.partition(":")[2]


def email_identifier(key: str) -> str:
    """Return the identifier of an e-mail in its normal form."""
    return f"email:{key}"


def phone_identifier(key: str) -> str:
    """Return the identifier of a phone in its normal form."""
    return f"phone:{key}"


def customer_identifier(number: int) -> str:
    """Return the identifier of a customer by number."""
    return f"customer:{number}"


def external_identifier(source: str, id_: str) -> str:
    """Return the identifier of an id of another system; both parts are trimmed.

    The first ``#`` separates them. ``%`` and ``#`` of the source are percent-encoded.
    """
    escaped = source.strip().replace("%", "%25").replace("#", "%23")
    return f"external:{escaped}#{id_.strip()}"


def source_and_id(identifier: str) -> tuple[str, str]:
    """Return the source and the id of an external identifier."""
    source, _, id_ = value_of(identifier).partition("#")
    return source.replace("%23", "#").replace("%25", "%"), id_


INVISIBLE = (
    r"\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    r"\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3"
    r"\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""The characters that Unicode calls default-ignorable: byte order and direction marks, spaces
without width, soft hyphens. As in the brackets of a regular expression, of Python or PostgreSQL."""
_INVISIBLE = re.compile(f"[{INVISIBLE}]")


def visible(text: str) -> str:
    """Return the text without invisible characters, and without blanks around it."""
    return _INVISIBLE.sub("", text).strip()


# --- E-mails

LONGEST_EMAIL = 320
"""The characters of the longest e-mail, in its normal form, too."""

_DOMAIN = r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*"
_USUAL = re.compile(rf"[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~.-]{{1,318}}@{_DOMAIN}")
"""The form of nearly every e-mail. Its normal form is the same in lower case.

It takes what shops have and mail servers deliver, such as two dots in a row; no library does.
"""
_ASCII_DOMAIN = re.compile(_DOMAIN)
_ONE_WORD = re.compile(r"[^\s\x00-\x1f]{1,318}")
_NAMED = re.compile(r"[^<>@]*<([^<>]*)>")
"""A name, which may be empty, and an e-mail in angle brackets."""
_LINK = "mailto:"
_MOST_WRAPPERS = 4
_ANY_DOMAIN = "shop.test"


def email_key(text: str) -> str | None:
    """Return the normal form of an e-mail; None if the text does not become an address.

    Equal are: any case, composed and decomposed letters, a domain in Unicode and in ASCII, the
    address alone, in angle brackets or in a ``mailto:`` link, and with invisible characters.
    Dots and plus tags of the mailbox make a difference.
    """
    if _USUAL.fullmatch(text) and len(text) <= LONGEST_EMAIL:
        return text.lower()
    return _unusual_email_key(text)


def written_email(text: str) -> str | None:
    """Return an e-mail as a person wrote it; its normal form if more than the case differs.

    In lower case, it is always the normal form. None if the text does not become an address.
    """
    key = email_key(text)
    bare = text.strip()
    return bare if key is not None and bare.lower() == key else key


def email_spellings(key: str) -> tuple[str, ...]:
    """Return an e-mail's normal form, and the one with a Unicode domain if that differs."""
    mailbox, _, domain = key.partition("@")
    if not domain.startswith("xn--") and ".xn--" not in domain:
        return (key,)
    import idna  # noqa: PLC0415

    try:
        return (key, f"{mailbox}@{idna.decode(domain)}")
    except (idna.IDNAError, UnicodeError):
        return (key,)


def _unusual_email_key(text: str) -> str | None:
    if len(text) > 4 * LONGEST_EMAIL:
        return None
    address = _unwrapped(text)
    if _USUAL.fullmatch(address) and len(address) <= LONGEST_EMAIL:
        return address.lower()
    local, _, domain = address.partition("@")
    if not _ONE_WORD.fullmatch(local) or not domain:
        return None
    ascii_domain = _ascii_domain(domain)
    mailbox = ascii_domain and _mailbox(_folded(local))
    key = f"{mailbox}@{ascii_domain}"
    return key if mailbox and len(key) <= LONGEST_EMAIL else None


def _unwrapped(text: str) -> str:
    """Return an address without what people, pages and mail programs put around it."""
    for _ in range(_MOST_WRAPPERS):
        before, text = text, visible(text)
        if named := _NAMED.fullmatch(text):
            text = named[1]
        if text[: len(_LINK)].lower() == _LINK:
            text = unquote(text[len(_LINK) :].partition("?")[0])
        if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
            text = text[1:-1]
        text = text.rstrip(" .,;")
        if text == before:
            break
    return text


def _folded(text: str) -> str:
    """Return the text without differences of case and of composed letters.

    Lower case comes last, because folding writes Cherokee in capitals. So PostgreSQL's ``lower``
    leaves the result as it is.
    """
    folded = unicodedata.normalize("NFD", text).casefold().lower()
    return unicodedata.normalize("NFC", folded)


def _ascii_domain(domain: str) -> str | None:
    """Return a domain in lower-case ASCII; None if there can be no such domain."""
    if not domain.isascii():
        import idna  # noqa: PLC0415

        try:
            domain = idna.encode(domain, uts46=True, std3_rules=True).decode()
        except (idna.IDNAError, UnicodeError):
            return None
    domain = domain.rstrip(".")
    return domain.lower() if _ASCII_DOMAIN.fullmatch(domain) else None


def _mailbox(local: str) -> str | None:
    """Return the part before the @ as the library normalizes it; None if it is not allowed."""
    if _USUAL.fullmatch(f"{local}@{_ANY_DOMAIN}"):
        return local
    from email_validator import EmailNotValidError, validate_email  # noqa: PLC0415

    try:
        # The library refuses domains such as shop.local, so it never sees the real one.
        validated = validate_email(
            f"{local}@{_ANY_DOMAIN}",
            allow_quoted_local=True,
            check_deliverability=False,
            test_environment=True,
        )
    except EmailNotValidError:
        return None
    return validated.local_part


# --- Phones

_LONGEST_PHONE = 64
_FEWEST_DIGITS = 8
_MOST_DIGITS = 15
"""E.164 allows no more."""
_SAME_AT_THE_END = 7


def known_country(code: str) -> bool:
    """Return True if numbers of this country, as in ISO 3166, can be read without a ``+``."""
    import phonenumbers  # noqa: PLC0415

    return code in phonenumbers.SUPPORTED_REGIONS


def phone_key(text: str, country: str | None) -> str | None:
    """Return a phone number in E.164, such as ``+32471123456``; None if it identifies nobody.

    ``country`` is where numbers without ``+`` are from, as in ISO 3166; None refuses these. A
    number with an extension is shared, and one such as 555-5555555 or 1234567890 is made up: both
    identify nobody. A number with ``+`` that fits no country's plan is kept by its digits, because
    a person who mistyped it once usually sends it again.
    """
    return _phone_key(text, country) if len(text) <= _LONGEST_PHONE else None


@lru_cache(8192)
def _phone_key(text: str, country: str | None) -> str | None:
    import phonenumbers  # noqa: PLC0415

    text = visible(text).removeprefix("'")  # spreadsheets put it before a +
    digits = None
    try:
        number = phonenumbers.parse(text, country)
    except phonenumbers.NumberParseException:
        pass
    else:
        if number.extension:
            return None
        # A number without its area code is "possible, but local only": several people have it.
        if phonenumbers.is_possible_number_with_reason(number) == (
            phonenumbers.ValidationResult.IS_POSSIBLE
        ):
            e164 = phonenumbers.PhoneNumberFormat.E164
            digits = phonenumbers.format_number(number, e164).removeprefix("+")
    international = text[:1] in {"+", "＋"}
    written = "".join(str(int(each)) for each in text if each.isdecimal())
    if digits is None and international and not any(each.isalpha() for each in text):
        digits = written
    if digits is None or not _FEWEST_DIGITS <= len(digits) <= _MOST_DIGITS or _made_up(digits):
        return None
    # A zero that the library took away may have another one behind it.
    return f"+{digits}" if international and digits == written else _phone_key(f"+{digits}", None)


def _made_up(digits: str) -> bool:
    """Return True for digits that people type when they must type some; no country has code 0."""
    if digits.startswith("0"):
        return True
    end = digits[-_SAME_AT_THE_END:]
    return len(set(end)) == 1 or end in "012345678901234567890" or end in "098765432109876543210"
