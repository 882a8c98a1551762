"""``/api/v1/hooks``: the shops whose webhooks are taken in, and what became of deliveries."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request
from pydantic import ConfigDict, Field
from starlette.responses import Response

from service.core.hooks import DeliveryOutcome, HookPlatform
from service.db.accounts import hooks
from service.db.accounts.hooks import ListedHook, TopicCount
from service.http.api.models import Camel, Collection, collection
from service.http.auth.guard import Admin
from service.http.json_response import Json
from service.http.problems import DOCUMENTED
from service.http.state import snapshot

router = APIRouter(prefix="/api/v1/hooks", tags=["webhooks"], responses=DOCUMENTED)


class Deliveries(Camel):
    """Deliveries of one topic that had the same outcome."""

    topic: str = Field(description="Empty for those that were not signed as they must be.")
    outcome: DeliveryOutcome
    deliveries: int
    last_at: datetime


class Hook(Camel):
    """A shop whose webhooks are taken in. Its secrets are never shown."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "platform": "shopify",
                    "domain": "my-shop.myshopify.com",
                    "dateCreated": "2026-11-22T10:00:00Z",
                    "lastDeliveryAt": "2026-11-22T12:00:00Z",
                    "lastFailureAt": None,
                    "lastFailure": None,
                    "secrets": 1,
                    "deliveries": [
                        {
                            "topic": "orders/updated",
                            "outcome": "published",
                            "deliveries": 12,
                            "lastAt": "2026-11-22T12:00:00Z",
                        }
                    ],
                }
            ]
        }
    )

    platform: HookPlatform
    domain: str = Field(description="The source of the events that come from here.")
    date_created: datetime
    last_delivery_at: datetime | None
    last_failure_at: datetime | None
    last_failure: str | None = Field(description="What was wrong, and what to do.")
    secrets: int = Field(description="How many are valid now.")
    deliveries: list[Deliveries]


class Hooks(Collection):
    """All hooks."""

    items: list[Hook]


@router.get("", response_model=Hooks)
async def list_hooks(request: Request, _: Admin) -> Response:
    """List the shops whose webhooks are taken in. `crm hooks` adds and removes them."""
    async with snapshot(request) as connection:
        listed = await hooks.list_hooks(connection)
        counts = await hooks.topic_counts(connection)
    items = [_hook(hook, [each for each in counts if each.hook_id == hook.id]) for hook in listed]
    return Json(collection(items, len(items), None))


def _hook(hook: ListedHook, counts: list[TopicCount]) -> dict[str, Any]:
    return {
        "platform": hook.platform,
        "domain": hook.domain,
        "dateCreated": hook.date_created,
        "lastDeliveryAt": hook.last_delivery_at,
        "lastFailureAt": hook.last_failure_at,
        "lastFailure": hook.last_failure,
        "secrets": hook.secrets,
        "deliveries": [
            {
                "topic": count.topic,
                "outcome": count.outcome,
                "deliveries": count.deliveries,
                "lastAt": count.last_at,
            }
            for count in counts
        ],
    }
