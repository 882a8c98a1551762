"""``POST /hooks/{platform}``: check the signature, then do what the topic means.

No session and no key: the signature alone says who sends. An answer of 200 means that the delivery
is kept: Redis has the event, or the database has what it says.
"""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NoReturn

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.core.documents import loads
from service.core.hooks import DeliveryOutcome
from service.db.engine import DATABASE_AWAY
from service.http.body_limits import RAW_BODY, body_bytes
from service.http.hook_registry import OpenHook
from service.http.hooks import shopify, standard, woocommerce
from service.http.hooks.platform import Delivery, Heading, Platform, Result, ignore
from service.http.json_response import Json
from service.http.problems import ProblemError, database_unavailable, log_database_error
from service.http.rate_limits import address_of, too_many
from service.http.state import state_of
from service.streams import redis_client

log = logging.getLogger(__name__)

router = APIRouter(include_in_schema=False)

PLATFORMS: dict[str, Platform] = {
    each.name: each for each in (shopify.PLATFORM, woocommerce.PLATFORM, standard.PLATFORM)
}
LARGEST_BODY = 8_388_608
"""Bytes. An order with hundreds of items has some hundred thousand; `CRM_MAX_BODY_BYTES` may allow
less."""
_LONGEST_TOPIC = 100


@router.post("/hooks/{platform}", openapi_extra={**body_bytes(LARGEST_BODY), RAW_BODY: True})
async def receive(request: Request, platform: str) -> Response:
    """Take a delivery in. The answer says what became of it."""
    kind = PLATFORMS.get(platform)
    if kind is None:
        detail = f"There are webhooks of {', '.join(PLATFORMS)}, and of nobody else."
        raise ProblemError(404, "Not found", detail)
    state, received_at = state_of(request), datetime.now(UTC)
    body = await request.body()
    if kind.is_test(request.headers, body):
        return Json({"outcome": DeliveryOutcome.IGNORED})
    heading = kind.heading(request.headers)
    try:
        hooks = await state.hooks.of_platform(kind.name)
    except DATABASE_AWAY as error:
        log_database_error(error)
        raise database_unavailable() from None
    hook = _signer(kind, heading, hooks, request, body)
    if hook is None:
        _refuse_unsigned(request, heading, hooks, received_at)
    if wait := state.hooks.rate.take(str(hook.id)):
        raise too_many(wait)
    if kind.says_domain and hook.domain != heading.domain:
        _refuse_other_shop(request, heading, hook, received_at)
    delivery = Delivery(
        hook,
        heading.topic[:_LONGEST_TOPIC],
        heading.event_id,
        heading.triggered_at,
        received_at,
        body,
        _document(body),
    )
    result = await _handled(request, kind, delivery)
    state.hooks.note(hook, delivery.topic, result.outcome, received_at, result.failure)
    return Json({"outcome": result.outcome})


def _signer(
    kind: Platform, heading: Heading, hooks: Sequence[OpenHook], request: Request, body: bytes
) -> OpenHook | None:
    """Return the hook that signed the body: that of the domain if its secret fits, else another.

    All secrets are tried, so that a refusal takes the same time whichever of them was nearest.
    """
    signers = [
        hook
        for hook in hooks
        if sum(kind.is_signed(request.headers, body, secret) for secret in hook.secrets)
    ]
    return min(signers, key=lambda hook: hook.domain != heading.domain, default=None)


def _refuse_unsigned(
    request: Request, heading: Heading, hooks: Sequence[OpenHook], at: datetime
) -> NoReturn:
    registry = state_of(request).hooks
    if wait := registry.wrong.take(address_of(request.scope)):
        raise too_many(wait)
    known = next((hook for hook in hooks if hook.domain == heading.domain), None)
    if known is None:
        log.warning("a webhook of a shop that has no hook, or with a wrong signature, was refused")
    else:
        failure = (
            "The signature was wrong. Either somebody else sent it, or the shop signs with another "
            "secret: take the secret from the shop, and run `crm hooks rotate`."
        )
        registry.note(known, "", DeliveryOutcome.WRONG_SIGNATURE, at, failure)
        log.warning("a webhook of hook %s had a wrong signature", known.id)
    detail = (
        "The signature is wrong, or this shop is not registered. `crm hooks list` shows those that "
        "are; `crm hooks add` adds one, and `crm hooks rotate` changes its secret."
    )
    raise ProblemError(401, "Unauthorized", detail)


def _refuse_other_shop(
    request: Request, heading: Heading, hook: OpenHook, at: datetime
) -> NoReturn:
    said = heading.domain[:100] or "an unnamed shop"
    failure = (
        f"A delivery was signed with this hook's secret, but says that it is from {said}. If that "
        "is another name of this shop, add a hook for it with the same secret."
    )
    state_of(request).hooks.note(hook, "", DeliveryOutcome.OTHER_SHOP, at, failure)
    detail = f"The secret is that of {hook.domain}, but the headers say {said}."
    raise ProblemError(401, "Unauthorized", detail)


async def _handled(request: Request, kind: Platform, delivery: Delivery) -> Result:
    """Do what the topic means. Raises the problem 503 while a server is away."""
    state = state_of(request)
    try:
        return await kind.handlers.get(delivery.topic, ignore)(state, delivery)
    except (*redis_client.REDIS_ERRORS, *DATABASE_AWAY) as error:
        why = redis_client.described(error)
    log.warning("a webhook was refused: %s", why)
    failure = f"Redis or the database did not take it ({why}). The shop was asked to send it again."
    state.hooks.note(
        delivery.hook, delivery.topic, DeliveryOutcome.UNAVAILABLE, delivery.received_at, failure
    )
    detail = "A server does not answer. Nothing was changed; send it again."
    raise ProblemError(503, "Unavailable", detail, headers={"Retry-After": "5"})


def _document(body: bytes) -> object:
    """Return a body as JSON; None if it is none."""
    try:
        return loads(body)
    except (ValueError, RecursionError):
        return None
