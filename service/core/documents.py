"""Decode the JSON document in a stream entry."""

import json
from decimal import Decimal
from typing import Any, NoReturn

from service.core.order_event import Reason, Refusal


def decode(raw: bytes) -> tuple[dict[str, Any], bytes] | Refusal:
    """Return the document of an entry and the bytes that it was decoded from, or a refusal."""
    try:
        document = loads(raw)
        # FastStream wrote JSON text within JSON before it had its binary envelope.
        if isinstance(document, dict) and "headers" in document:
            inner = document.get("data")
            if isinstance(inner, str):
                raw = inner.encode()
                document = loads(raw)
    except UnicodeDecodeError as error:
        return Refusal(
            Reason.INVALID_UTF8, f"byte {error.start} of the document is not UTF-8: {error.reason}"
        )
    except RecursionError:
        return Refusal(Reason.NOT_JSON, "the document is nested too deeply to be read")
    except ValueError as error:
        return Refusal(Reason.NOT_JSON, f"the document is not JSON: {error}")
    if not isinstance(document, dict):
        return Refusal(
            Reason.NOT_AN_OBJECT,
            "the document is JSON, but not an object with `id`, `type` and `data`",
        )
    return document, raw


def _no_constant(name: str) -> NoReturn:
    msg = f"{name} is not a JSON number"
    raise ValueError(msg)


def _decimal(written: str) -> Decimal:
    """Return a number with every digit that the publisher wrote, which a float would not keep.

    Beyond what a Decimal holds it is infinite. No amount may be; elsewhere it does no harm.
    """
    try:
        return Decimal(written)
    except ArithmeticError:
        return Decimal("Infinity")


_DECODER = json.JSONDecoder(parse_float=_decimal, parse_constant=_no_constant)


def loads(raw: bytes) -> Any:
    """Return a JSON document whose numbers with a fraction are Decimals.

    Raises ValueError, or RecursionError if it is nested too deeply.
    """
    return _DECODER.decode(raw.decode().removeprefix("\ufeff"))  # accept a byte order mark
