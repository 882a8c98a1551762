"""Order events of any other system, signed as Standard Webhooks says.

The body is an order event, as an entry of the stream has it. Take this module as the template for
the next platform.
"""

import base64
import binascii
from datetime import UTC, datetime

from starlette.datastructures import Headers

from service.core.hooks import HookPlatform
from service.http.hooks.orders import publish_event
from service.http.hooks.platform import Heading, Platform, base64_signature, same

_PREFIX = b"whsec_"
_MOST_SECONDS = 300
"""How far the signed time may be from now. What was signed earlier may have been overheard."""
_EVENT = "event"


def _heading(headers: Headers) -> Heading:
    return Heading(_EVENT, "", headers.get("webhook-id", ""))


def _is_signed(headers: Headers, body: bytes, secret: bytes) -> bool:
    id_, at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not at.isdecimal() or abs(datetime.now(UTC).timestamp() - int(at[:12])) > _MOST_SECONDS:
        return False
    expected = base64_signature(f"{id_}.{at}.".encode() + body, _key(secret))
    # There are several signatures while the sender changes its secret.
    signatures = headers.get("webhook-signature", "").split()
    return any(same(each, f"v1,{expected}") for each in signatures)


def _key(secret: bytes) -> bytes:
    """Return the bytes that a secret stands for; one without the prefix stands for itself."""
    if not secret.startswith(_PREFIX):
        return secret
    try:
        return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        return secret


PLATFORM = Platform(
    name=HookPlatform.STANDARD,
    title="Standard Webhooks",
    heading=_heading,
    is_signed=_is_signed,
    handlers={_EVENT: publish_event},
    says_domain=False,
)
