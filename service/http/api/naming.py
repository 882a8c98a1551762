"""How a request names an identifier: as one text, or by kind and value."""

from typing import Annotated, Self

from fastapi import Request
from pydantic import ConfigDict, Field, model_validator

from service.core.customer_ids import customer_number
from service.core.identifiers import (
    IdentifierKind,
    customer_identifier,
    email_identifier,
    email_key,
    external_identifier,
    phone_identifier,
    phone_key,
    source_and_id,
)
from service.core.numbers import whole_number
from service.http.api.customer_json import NOT_AN_EMAIL
from service.http.api.models import Camel, NotBlank, ShortText
from service.http.problems import ProblemError, invalid
from service.http.state import state_of

_KINDS = ", ".join(f"`{kind}:`" for kind in IdentifierKind)


class Named(Camel):
    """An identifier: its text as a customer's `identifiers` have it, or its kind and value.

    It is normalised as those of events are, so any spelling will do.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"kind": "email", "value": "Jane@example.com"},
                {"kind": "external", "source": "/shop", "value": "5512"},
                {"identifier": "phone:+8801711000001"},
            ]
        }
    )

    identifier: Annotated[ShortText, NotBlank] | None = None
    kind: IdentifierKind | None = None
    value: Annotated[ShortText, NotBlank] | None = None
    source: Annotated[ShortText, NotBlank] | None = Field(
        None, description="The `source` of the events that have this id, for an `external` id."
    )

    @model_validator(mode="after")
    def _named_in_one_way(self) -> Self:
        parts = [self.kind, self.value]
        if self.identifier is None:
            good = None not in parts
        else:
            good = parts == [None, None] and self.source is None
        if not good:
            msg = "send either `identifier`, or `kind` and `value`"
            raise ValueError(msg)
        return self


def normalised(request: Request, named: Named, where: str = "body") -> str:
    """Return the identifier that a request names. Raises the problem 422 if it names none."""
    if named.identifier is not None:
        return normalised_text(request, named.identifier, f"{where}.identifier")
    assert named.kind is not None  # noqa: S101  the model requires both
    assert named.value is not None  # noqa: S101
    return _normalised(request, named.kind, named.value, named.source, where)


def normalised_text(request: Request, text: str, where: str) -> str:
    """Return the identifier that a text such as ``email:jane@example.com`` means."""
    kind, colon, value = text.partition(":")
    if not colon or kind not in set(IdentifierKind):
        raise invalid(where, f"must begin with one of {_KINDS}")
    source = None
    if kind == IdentifierKind.EXTERNAL and "#" in value:
        source, value = source_and_id(text)
    return _normalised(request, IdentifierKind(kind), value, source, where)


def _normalised(
    request: Request, kind: IdentifierKind, value: str, source: str | None, where: str
) -> str:
    if kind is IdentifierKind.EXTERNAL:
        if not source or not source.strip() or not value.strip():
            raise invalid(where, "needs the source of the id, too, such as `/shop`")
        return external_identifier(source, value)
    if source is not None:
        raise invalid(where, "must have a source only if it is an external id")
    if kind is IdentifierKind.EMAIL:
        key = email_key(value)
        if key is None:
            raise invalid(where, NOT_AN_EMAIL)
        return email_identifier(key)
    if kind is IdentifierKind.PHONE:
        country = state_of(request).config.terms.country
        key = phone_key(value, country)
        if key is None:
            raise _not_a_phone(where, country)
        return phone_identifier(key)
    number = customer_number(value.strip().upper())
    if number is None:
        number = whole_number(value)
    if number is None:
        raise invalid(where, "must be the id of a customer, such as CUST-1001")
    return customer_identifier(number)


def _not_a_phone(where: str, country: str | None) -> ProblemError:
    example = "as +8801711000001" if country is None else f"with `+`, or as in {country}"
    return invalid(where, f"must be a phone number that means one person, written {example}")
