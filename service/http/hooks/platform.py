"""What a platform's module says: how its requests are signed, and what its topics mean."""

import base64
import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from starlette.datastructures import Headers

from service.core.hooks import DeliveryOutcome, HookPlatform
from service.http.hook_registry import OpenHook
from service.http.state import WebState


class Heading(NamedTuple):
    """What the headers of a delivery say. Nothing but the body is signed."""

    topic: str
    domain: str
    """The shop's domain, in lower case."""
    event_id: str
    """Empty if there is none."""
    triggered_at: datetime | None = None


@dataclass(frozen=True)
class Delivery:
    """A delivery whose signature is right."""

    hook: OpenHook
    topic: str
    event_id: str
    triggered_at: datetime | None
    received_at: datetime
    body: bytes
    document: Any
    """The body as JSON. None if it is none."""

    @property
    def at(self) -> datetime:
        """When the shop says that it happened; else when it arrived."""
        return min(self.triggered_at or self.received_at, self.received_at)

    @property
    def digest(self) -> bytes:
        """The SHA-256 of the body. Only the body is signed, so only it tells deliveries apart."""
        return hashlib.sha256(self.body).digest()

    @property
    def actor(self) -> str:
        """The name under which the audit records what the delivery does."""
        return f"hook:{self.hook.platform} {self.hook.domain}"


class Result(NamedTuple):
    """What became of a delivery."""

    outcome: DeliveryOutcome
    failure: str | None = None
    """What was wrong, and what to do, if somebody has to do something."""


Handler = Callable[[WebState, Delivery], Awaitable[Result]]
"""Does what a topic means. Raises REDIS_ERRORS or DATABASE_AWAY: then the shop sends it again."""


@dataclass(frozen=True)
class Platform:
    """A kind of shop."""

    name: HookPlatform
    """As the address and ``crm hooks`` have it."""
    title: str
    heading: Callable[[Headers], Heading]
    is_signed: Callable[[Headers, bytes, bytes], bool]
    """Whether a request with these headers and this body was signed with this secret."""
    handlers: Mapping[str, Handler]
    """By topic."""
    is_test: Callable[[Headers, bytes], bool] = lambda _headers, _body: False
    """Whether a request only tries the address. It is not signed, and has no effect."""
    says_domain: bool = True
    """Whether the headers say which shop it is."""


OLDEST = timedelta(days=7)
"""How long ago something may have been triggered that cannot be undone. Shops try for two days."""


def too_old(delivery: Delivery) -> Result | None:
    """Return the refusal of a delivery that was triggered too long ago; None if it was not."""
    if delivery.received_at - delivery.at <= OLDEST:
        return None
    failure = (
        f"“{delivery.topic}” was triggered more than {OLDEST.days} days ago. What it asks for "
        "cannot be undone, so it was not done. If it is still right, do it by hand."
    )
    return Result(DeliveryOutcome.TOO_OLD, failure)


async def ignore(_state: WebState, _delivery: Delivery) -> Result:
    """Do nothing: the topic says nothing that is kept here."""
    return Result(DeliveryOutcome.IGNORED)


def base64_signature(body: bytes, secret: bytes) -> str:
    """Return the signature that most platforms use: HMAC-SHA256 in Base64."""
    return base64.b64encode(hmac.digest(secret, body, "sha256")).decode()


def same(one: str, other: str) -> bool:
    """Compare two signatures in constant time."""
    return hmac.compare_digest(one.encode(), other.encode())


def moment(written: str | None) -> datetime | None:
    """Return a time in ISO 8601 with an offset; None if it is none."""
    try:
        at = datetime.fromisoformat((written or "").strip().upper())
    except ValueError:
        return None
    return at.astimezone(UTC) if at.tzinfo else None
