"""Values in JSON, written the same way on the out-stream and over HTTP.

Money is a number with two decimals. Times are UTC and end with ``Z``.
"""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson
from pydantic.alias_generators import to_camel


def money(amount: Decimal) -> orjson.Fragment:
    """Return an amount as an exact JSON number with two decimals."""
    return orjson.Fragment(f"{amount:.2f}")


def timestamp(moment: datetime | None) -> str | None:
    """Return a moment in UTC with ``Z``, and None for None."""
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def dumps(value: object) -> bytes:
    """Return a value as JSON; decimals and datetimes are written as above."""
    return orjson.dumps(value, default=_default, option=orjson.OPT_PASSTHROUGH_DATETIME)


def _default(value: object) -> Any:
    if isinstance(value, Decimal):
        return money(value)
    if isinstance(value, datetime):
        return timestamp(value)
    msg = f"cannot write a {type(value).__name__} as JSON"
    raise TypeError(msg)


def camel(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the same fields with names in camelCase."""
    return {to_camel(name): value for name, value in fields.items()}
