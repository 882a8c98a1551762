"""Identifiers: the normal forms of what names a customer in an event.

An identifier is a text such as ``email:jane@example.com`` or ``external:/shop#5512``.
"""

from enum import StrEnum


class IdentifierKind(StrEnum):
    """What an identifier is."""

    EMAIL = "email"
    EXTERNAL = "external"
    PHONE = "phone"
    CUSTOMER = "customer"


def kind_of(identifier: str) -> IdentifierKind:
    return IdentifierKind(identifier.partition(":")[0])


def value_of(identifier: str) -> str:
    return identifier.partition(":")[2]


def email_key(text: str) -> str | None:
    return text.strip().lower() or None


def email_identifier(key: str) -> str:
    return f"email:{key}"


def external_identifier(source: str, id_: str) -> str:
    escaped = source.strip().replace("%", "%25").replace("#", "%23")
    return f"external:{escaped}#{id_.strip()}"


def phone_identifier(key: str) -> str:
    return f"phone:{key}"


def customer_identifier(number: int) -> str:
    return f"customer:{number}"
