"""Read leniently what does not decide about an order: words of other systems, numbers as text.

`judge` tries this only on a document that does not fit the contract as it is. So the usual event
does not pay for it.
"""

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

LONGEST_TEXT = 1000
"""The characters of a name, a phone or a part of an address that are kept."""

_LONGEST_NUMBER = 100
"""The digits of the longest number that is read as text."""
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
"""U+0000 and halves of surrogate pairs, which Postgres refuses."""
_BETWEEN_WORDS = re.compile(r"[\s-]+")
_SAME = {"voided": "failed", "authorized": "pending", "canceled": "cancelled"}
"""Words of other systems for statuses of ours."""
OTHER_STREETS = (("line1", "line2"), ("address1", "address2"))
"""What others call the two lines of the street."""
OTHER_STREET = re.compile(rb'"(?:line|address)[12]"')
"""Finds these names in JSON."""


def as_text(value: object) -> object:
    """Return a whole JSON number as its digits; any other value as it is."""
    if isinstance(value, Decimal) and value.is_finite() and value.adjusted() < _LONGEST_NUMBER:
        value = int(value) if value == value.to_integral_value() else value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def read_leniently(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of an order event in the form of the contract, as far as it can be told.

    What remains wrong is left as it is, so that `judge` names it in its refusal.
    """
    order = document.get("data")
    if not isinstance(order, dict):
        return dict(document)
    order = dict(order)
    for name in ("paymentStatus", "refundedAmount"):
        if order.get(name) == "":
            order[name] = None
    if order.get("customer") in ("", []):  # some languages write an empty object as a list
        order["customer"] = None
    for name in ("status", "paymentStatus"):
        if isinstance(order.get(name), str):
            order[name] = _status(order[name])
    if "id" in order:
        order["id"] = as_text(order["id"])
    if isinstance(customer := order.get("customer"), dict):
        order["customer"] = customer | _told(customer, ("name", "phone"))
    address = order.get("shippingAddress")
    order["shippingAddress"] = _address(address) if isinstance(address, dict) else None
    return {**document, "data": order}


def _address(told: Mapping[str, Any]) -> dict[str, str | None]:
    address = _told(told, told)
    for lines in OTHER_STREETS:
        if not (address.get("street") or "").strip():
            street = filter(None, ((address.get(line) or "").strip() for line in lines))
            address["street"] = ", ".join(street)[:LONGEST_TEXT]
    return address


def _status(written: str) -> str:
    word = _BETWEEN_WORDS.sub("_", written.strip().lower())
    return _SAME.get(word, word)


def _told(values: Mapping[str, Any], names: Iterable[str]) -> dict[str, str | None]:
    """Return these values as texts that can be stored; None for those that are no text."""
    return {name: _storable(as_text(values.get(name))) for name in names}


def _storable(value: object) -> str | None:
    return UNSTORABLE.sub("", value[:LONGEST_TEXT]) if isinstance(value, str) else None
