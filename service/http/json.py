"""JSON as the contract writes it: money with two decimals, times in UTC with ``Z``."""

from datetime import datetime
from decimal import Decimal
from typing import Any

import orjson
from starlette.responses import Response

from service.db.outbox import money, timestamp


def dumps(value: object) -> bytes:
    """Serialize; decimals become JSON numbers with two decimals, exactly."""
    return orjson.dumps(value, default=_default, option=orjson.OPT_PASSTHROUGH_DATETIME)


def _default(value: object) -> Any:
    if isinstance(value, Decimal):
        return money(value)
    if isinstance(value, datetime):
        return timestamp(value)
    msg = f"cannot write a {type(value).__name__} as JSON"
    raise TypeError(msg)


class Json(Response):
    """A response in that form."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        """Serialize the content."""
        return dumps(content)
