"""``/api/v1/webhooks``: endpoints to which events are sent by HTTP."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from pydantic import AwareDatetime, ConfigDict, Field
from starlette.responses import Response

from service.core.endpoints import (
    MOST_ENDPOINTS,
    OVERLAP,
    BadUrlError,
    EventKind,
    make_secret,
)
from service.core.scopes import Actor
from service.db.engine import in_transaction
from service.db.operations import endpoints
from service.db.operations.endpoints import (
    MOST_COUNTED,
    Endpoint,
    EndpointChange,
    NewEndpoint,
    NoSuchEndpointError,
    TooManyEndpointsError,
)
from service.http.api.models import Camel, Collection, NotBlank, ShortText, collection
from service.http.auth.guard import Admin
from service.http.json_response import Json
from service.http.problems import DOCUMENTED, Problem, ProblemError, invalid
from service.http.state import snapshot, state_of
from service.resolution import check_url

router = APIRouter(prefix="/api/v1/webhooks", tags=["webhooks"], responses=DOCUMENTED)

NOT_FOUND: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "There is no such endpoint."}
}
_FULL: dict[int | str, dict[str, Any]] = {
    409: {"model": Problem, "description": f"There are {MOST_ENDPOINTS} endpoints already."}
}
_HOUR = timedelta(hours=1)

EndpointNumber = Annotated[int, Path(alias="id", ge=1, le=2**63 - 1, examples=[1])]


class WebhookEndpoint(Camel):
    """An endpoint, and how far it is."""

    id: str = Field(examples=["1"])
    url: str = Field(examples=["https://analytics.example.com/hook"])
    description: str
    events: list[EventKind]
    allow_private: bool = Field(description="Only `crm hooks add-endpoint` can allow it.")
    state: str = Field(description="`active`, `failing` or `paused`", examples=["active"])
    date_created: datetime
    created_by: str
    paused_at: datetime | None
    paused_by: str | None = Field(description="null: the service itself, or it is not paused")
    paused_because: str | None
    delivered: int = Field(description="Events that it has taken so far.")
    failed: int = Field(description="Attempts that failed so far.")
    last_delivered_at: datetime | None
    last_event: str | None = Field(
        description="The id of the event that it took last.", examples=["CUST-1001:2"]
    )
    last_attempt_at: datetime | None
    failures: int = Field(description="Failed attempts since the last event that it took.")
    failing_since: datetime | None
    next_attempt_at: datetime | None
    last_error: str | None = Field(examples=["answered 500"])
    secrets: int = Field(description="How many secrets sign now. Two while one is replaced.")
    waiting: int = Field(
        description="Published events that it does not have yet. "
        f"They are not counted beyond {MOST_COUNTED:,}."
    )
    lag_seconds: float = Field(description="The age of the oldest of them.")


class WebhookEndpoints(Collection):
    """All endpoints."""

    items: list[WebhookEndpoint]


class NewWebhook(Camel):
    """A new endpoint."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"url": "https://analytics.example.com/hook"}]}
    )

    url: str = Field(max_length=2000, description="Where events go, by POST. It needs HTTPS.")
    events: list[EventKind] = Field(list(EventKind), min_length=1, max_length=len(EventKind))
    description: ShortText = ""
    since: AwareDatetime | None = Field(
        None, description="It gets events from this time on. null: from now on."
    )


class WebhookChanges(Camel):
    """What to change of an endpoint. What is left out stays."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"description": "the new mailing list"}]}
    )

    url: str | None = Field(
        None,
        max_length=2000,
        description="It must be public, also if the endpoint may be in a private network now.",
    )
    events: list[EventKind] | None = Field(
        None,
        min_length=1,
        max_length=len(EventKind),
        description="Events of a kind that is new to it come from now on.",
    )
    description: ShortText | None = None


class RegisteredWebhook(Camel):
    """A new endpoint and its secret."""

    endpoint: WebhookEndpoint
    secret: str = Field(
        description="It signs every request. It is shown only once.", examples=["whsec_MfKQ9r8G"]
    )


class Why(Camel):
    """Why somebody decides so."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"why": "maintenance"}]})

    why: Annotated[ShortText, NotBlank] = Field(description="For those who look.")


class ReplayRequest(Camel):
    """From when on everything is sent again."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"since": "2026-11-22T10:00:00Z"}]})

    since: AwareDatetime
    skip: bool = Field(
        False,  # noqa: FBT003  a default, not an argument
        description="Also leave out events from before, if it does not have them yet.",
    )


class ReplayOutcome(Camel):
    """What a replay changes, in events."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"again": 120, "skipped": 0}]})

    again: int = Field(description="They will be sent again, with the same ids.")
    skipped: int = Field(description="They will never be sent.")


class RenewRequest(Camel):
    """How a secret is replaced."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"keepHours": 24}]})

    keep_hours: float = Field(
        OVERLAP / _HOUR, ge=0, le=720, description="How long the former secret signs as well."
    )


class RenewedSecret(Camel):
    """A new secret."""

    secret: str = Field(description="It is shown only once.", examples=["whsec_MfKQ9r8G"])


@router.get("", response_model=WebhookEndpoints)
async def list_webhooks(request: Request, _: Admin) -> Response:
    """List the endpoints, the oldest first."""
    async with snapshot(request) as connection:
        found = await endpoints.endpoints(connection)
    return Json(collection([_json(each) for each in found]))


@router.post("", status_code=201, response_model=RegisteredWebhook, responses=_FULL)
async def add_webhook(request: Request, actor: Admin, body: NewWebhook) -> Response:
    """Register an endpoint. From now on, it gets events by POST.

    They are signed as [Standard Webhooks](https://www.standardwebhooks.com) says, with the secret
    in the answer. The host must have public addresses.
    """
    added, secret = await registered(request, actor, body)
    return Json({"endpoint": _json(added), "secret": secret}, 201)


@router.patch("/{id}", response_model=WebhookEndpoint, responses=NOT_FOUND)
async def change_webhook(
    request: Request, actor: Admin, number: EndpointNumber, body: WebhookChanges
) -> Response:
    """Change the URL, the events or the description of an endpoint.

    It goes on with the next event. Another URL is tried at once.
    """
    await changed(request, actor, number, body)
    return Json(_json(await read(request, number)))


@router.get("/{id}", response_model=WebhookEndpoint, responses=NOT_FOUND)
async def read_webhook(request: Request, _: Admin, number: EndpointNumber) -> Response:
    """Read an endpoint, and how far it is."""
    return Json(_json(await read(request, number)))


@router.delete("/{id}", status_code=204, responses=NOT_FOUND)
async def remove_webhook(request: Request, actor: Admin, number: EndpointNumber) -> Response:
    """Forget an endpoint and its secrets."""
    await decide(request, endpoints.remove, number, actor.name)
    return Response(status_code=204)


@router.post("/{id}/pause", response_model=WebhookEndpoint, responses=NOT_FOUND)
async def pause_webhook(
    request: Request, actor: Admin, number: EndpointNumber, body: Why
) -> Response:
    """Send nothing more to an endpoint. Nothing is lost: it gets the events when it is resumed."""
    await decide(request, endpoints.pause, number, actor.name, body.why)
    return Json(_json(await read(request, number)))


@router.post("/{id}/resume", response_model=WebhookEndpoint, responses=NOT_FOUND)
async def resume_webhook(request: Request, actor: Admin, number: EndpointNumber) -> Response:
    """Go on sending to an endpoint, at once. What it has missed comes first."""
    await decide(request, endpoints.resume, number, actor.name)
    return Json(_json(await read(request, number)))


@router.post("/{id}/replay", response_model=ReplayOutcome, responses=NOT_FOUND)
async def replay_webhook(
    request: Request, actor: Admin, number: EndpointNumber, body: ReplayRequest
) -> Response:
    """Send all events since a time again, with the same ids."""
    outcome = await decide(request, endpoints.replay, number, body.since, actor.name, body.skip)
    return Json(outcome._asdict())


@router.post("/{id}/secret", response_model=RenewedSecret, responses=NOT_FOUND)
async def renew_webhook_secret(
    request: Request, actor: Admin, number: EndpointNumber, body: RenewRequest
) -> Response:
    """Sign with a new secret. For a while, the former one signs as well."""
    return Json({"secret": await renewed(request, actor, number, body)})


async def registered(request: Request, actor: Actor, body: NewWebhook) -> tuple[Endpoint, str]:
    """Register an endpoint. Return it and its secret. Raises a problem."""
    await _check(body.url)
    secret = make_secret()
    new = NewEndpoint(body.url, body.events, body.description, since=body.since)
    try:
        number = await in_transaction(
            state_of(request).engine, endpoints.add, new, secret, actor.name
        )
    except TooManyEndpointsError:
        detail = f"There are {MOST_ENDPOINTS} endpoints already. Remove one first."
        raise ProblemError(409, "Too many endpoints", detail) from None
    return await read(request, number), secret


async def changed(
    request: Request, actor: Actor, number: int, body: WebhookChanges
) -> Sequence[str]:
    """Change an endpoint. Return the names of what is different now. Raises a problem."""
    url = body.url
    if url is not None and url != (await read(request, number)).url:
        await _check(url)  # one that stays may be in a private network
    wanted = EndpointChange(url, body.events, body.description)
    different: list[str] = await decide(request, endpoints.change, number, wanted, actor.name)
    return different


async def renewed(request: Request, actor: Actor, number: int, body: RenewRequest) -> str:
    """Have requests signed with a new secret, and return it. Raises a problem."""
    secret = make_secret()
    keep = body.keep_hours * _HOUR
    await decide(request, endpoints.renew_secret, number, secret, keep, actor.name)
    return secret


async def _check(url: str) -> None:
    try:
        await check_url(url, allow_private=False)
    except BadUrlError as error:
        raise invalid("body.url", str(error)) from None


async def read(request: Request, number: int) -> Endpoint:
    """Return an endpoint as it is now. Raises the problem 404 if there is none."""
    # Not from a replica: whoever has just decided wants to see it.
    found: Endpoint = await decide(request, endpoints.endpoint, number)
    return found


async def decide(request: Request, work: Any, number: int, *arguments: Any) -> Any:
    """Return ``work(connection, number, …)``. Raises the problem 404 if there is no endpoint."""
    try:
        return await in_transaction(state_of(request).engine, work, number, *arguments)
    except NoSuchEndpointError:
        detail = "There is no such endpoint; perhaps somebody has removed it."
        raise ProblemError(404, "Endpoint not found", detail) from None


def _json(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "id": str(endpoint.id),
        "url": endpoint.url,
        "description": endpoint.description,
        "events": list(endpoint.events),
        "allowPrivate": endpoint.allow_private,
        "state": endpoint.state,
        "dateCreated": endpoint.created_at,
        "createdBy": endpoint.created_by,
        "pausedAt": endpoint.paused_at,
        "pausedBy": endpoint.paused_by,
        "pausedBecause": endpoint.paused_because,
        "delivered": endpoint.delivered,
        "failed": endpoint.failed,
        "lastDeliveredAt": endpoint.last_delivered_at,
        "lastEvent": endpoint.last_event,
        "lastAttemptAt": endpoint.last_attempt_at,
        "failures": endpoint.failures,
        "failingSince": endpoint.failing_since,
        "nextAttemptAt": endpoint.next_attempt_at,
        "lastError": endpoint.last_error,
        "secrets": endpoint.secrets,
        "waiting": min(endpoint.waiting, MOST_COUNTED),
        "lagSeconds": round(endpoint.lag_seconds, 3),
    }
