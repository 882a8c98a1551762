"""``/api/v1/settings``: the segment rules, what counts, the time zone, and their history."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    ValidationError,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel
from pydantic.config import JsonDict
from starlette.responses import Response

from service.core.counting import CountFrom
from service.core.json_values import camel
from service.core.numbers import whole_number
from service.core.segment_rules import Precedence, SegmentSettings
from service.core.time_zones import known_time_zone
from service.db.engine import in_transaction
from service.db.segments import rule_settings
from service.db.segments.rule_settings import NO_VERSION, OutdatedError, SettingsRecord
from service.http.api.cursors import Limit
from service.http.api.models import Camel, Collection, Storable, collection
from service.http.auth.guard import Admin, Reader
from service.http.json_response import Json
from service.http.problems import DOCUMENTED, Problem, ProblemError, invalid
from service.http.state import snapshot, state_of

router = APIRouter(prefix="/api/v1/settings", tags=["settings"], responses=DOCUMENTED)

_MOST = 1_000_000
_LONGEST_DAYS = 36_500
_OUTDATED: dict[int | str, dict[str, Any]] = {
    409: {
        "model": Problem,
        "description": "`expectedVersion` is out of date; `current` is in force.",
    },
    412: {
        "model": Problem,
        "description": "The version in `If-Match` is out of date; `current` is in force.",
    },
}
SETTINGS_EXAMPLE: JsonDict = {
    "vipOrderCount": 3,
    "vipTotalSpent": 500.00,
    "atRiskDays": 60,
    "inactiveDays": 90,
    "autoSegmentation": True,
    "precedence": "recency_first",
    "countFrom": "placed",
    "countFreeOrders": True,
    "timeZone": "Europe/Berlin",
}


class SettingsPatch(Camel):
    """Changes to the settings. A field that is absent or null stays as it is.

    `atRiskDays` must be fewer than `inactiveDays`.
    """

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"atRiskDays": 45}, SETTINGS_EXAMPLE]}
    )

    vip_order_count: Annotated[StrictInt, Field(ge=1, le=_MOST)] | None = None
    vip_total_spent: (
        Annotated[
            Decimal,
            Field(ge=0, lt=10**12, decimal_places=2),
            WithJsonSchema({"type": "number"}, mode="serialization"),
        ]
        | None
    ) = None
    at_risk_days: Annotated[StrictInt, Field(ge=1, le=_LONGEST_DAYS)] | None = None
    inactive_days: Annotated[StrictInt, Field(ge=1, le=_LONGEST_DAYS)] | None = None
    auto_segmentation: StrictBool | None = None
    precedence: Precedence | None = None
    count_from: CountFrom | None = None
    count_free_orders: StrictBool | None = None
    time_zone: (
        Annotated[Storable, AfterValidator(known_time_zone), Field(max_length=100)] | None
    ) = Field(None, description="A name of the IANA database, such as `Europe/Berlin`.")

    def changes(self) -> dict[str, Any]:
        """Return the fields to change, by their names in `SegmentSettings`."""
        return self.model_dump(include=set(SegmentSettings.model_fields), exclude_none=True)


class NewSettings(SettingsPatch):
    """Changes to the settings, to be saved."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"atRiskDays": 45, "expectedVersion": 1}]}
    )

    expected_version: StrictInt | None = Field(
        None,
        description="The version you read. If another one is in force by now, the answer is 409.",
    )


class SettingsVersion(Camel):
    """A version of the settings, who saved it, and when."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "version": 2,
                    "changedAt": "2026-11-22T10:00:00Z",
                    "changedBy": "jane@example.com",
                    **SETTINGS_EXAMPLE,
                    "change": "2",
                }
            ]
        }
    )

    version: int
    changed_at: datetime
    changed_by: str
    vip_order_count: int = Field(description="`vip` from this many counted orders on.")
    vip_total_spent: float = Field(description="`vip` from this much spent on, net of refunds.")
    at_risk_days: int = Field(description="`at_risk` this many days after the last order.")
    inactive_days: int = Field(description="`inactive` this many days after the last order.")
    auto_segmentation: bool = Field(description="If false, segments only change by hand.")
    precedence: Precedence = Field(
        description="`recency_first`: inactive, at_risk, vip, new, returning; `value_first`: "
        "new, vip, inactive, at_risk, returning. The first rule that holds wins."
    )
    count_from: CountFrom = Field(
        description="`placed`: an order counts as soon as it is placed. `paid`: it counts once it "
        "is paid, so orders with an open or only authorized payment do not count."
    )
    count_free_orders: bool = Field(description="Whether orders with a total of 0 count.")
    time_zone: str = Field(
        description="The store's, by its name in the IANA database. Days and months are its."
    )
    change: str | None = Field(
        description="The id under `/settings/changes/{id}`, which shows how many customers "
        "this version was applied to so far. Null for the first version."
    )


class FieldChange(Camel):
    """One setting, before and after."""

    before: Any
    after: Any


class PastVersion(SettingsVersion):
    """A version and what it changed."""

    changed: dict[str, FieldChange]


class SettingsHistory(Collection):
    """Versions, the newest first."""

    items: list[PastVersion]


@router.get("", response_model=SettingsVersion)
async def read_settings(request: Request, _: Reader) -> Response:
    """Return the settings in force. The `ETag` is their version."""
    async with snapshot(request) as connection:
        return _answer(await rule_settings.current(connection))


@router.get("/history", response_model=SettingsHistory)
async def settings_history(
    request: Request,
    _: Reader,
    limit: Limit = 50,
    cursor: Annotated[str | None, Query(pattern=r"^\d{1,9}$")] = None,
) -> Response:
    """List all versions, the newest first: who changed what, when."""
    async with snapshot(request) as connection:
        # One more than shown, because the oldest shown version is compared to the one before it.
        versions, total = await rule_settings.history(
            connection, limit + 1, int(cursor) if cursor else None
        )
    before = {version.version: values_json(version.settings) for version in versions}
    items = []
    for version in versions[:limit]:
        old, new = before.get(version.version - 1, {}), values_json(version.settings)
        changed = {
            name: {"before": old[name], "after": value}
            for name, value in new.items()
            if name in old and old[name] != value
        }
        items.append({**_version(version), "changed": changed})
    next_cursor = str(items[-1]["version"]) if len(versions) > limit else None
    return Json(collection(items, total, next_cursor))


@router.put("", response_model=SettingsVersion, responses=_OUTDATED)
async def save_settings(
    request: Request,
    actor: Admin,
    body: NewSettings,
    if_match: Annotated[str | None, Header(description="The `ETag` you read.")] = None,
) -> Response:
    """Save a new version. It is in force at once; customers are moved in the background.

    If other orders count now, they are counted again first. Follow the progress at
    `/settings/changes/{change}`. If nothing differs, no version is saved.
    An earlier change that is still running stops, because the new one goes through all customers.
    """
    expected, status = body.expected_version, 409
    if if_match is not None and if_match.strip() != "*":
        version = whole_number(if_match.strip().removeprefix("W/").strip('"'))
        expected, status = NO_VERSION if version is None else version, 412
    try:
        saved = await in_transaction(
            state_of(request).engine, rule_settings.save, actor.name, body.changes(), expected
        )
    except OutdatedError as error:
        raise ProblemError(
            status,
            "Changed meanwhile",
            "Somebody saved other settings after you read them. `current` is in force now. "
            "Read it and repeat your change.",
            current=_version(error.args[0]),
        ) from None
    except ValidationError as error:
        raise impossible(error, body) from None
    return _answer(saved)


def impossible(error: ValidationError, body: SettingsPatch) -> ProblemError:
    """Return the problem for settings that contradict each other.

    It names a field that the request changes. Each field alone was found valid before.
    """
    changes = body.changes()
    field = next((name for name in ("at_risk_days", "inactive_days") if name in changes), "")
    message = error.errors()[0]["msg"].removeprefix("Value error, ")
    return invalid(f"body.{to_camel(field)}".rstrip("."), message)


def _answer(version: SettingsRecord) -> Response:
    return Json(_version(version), headers={"ETag": f'"{version.version}"'})


def _version(version: SettingsRecord) -> dict[str, Any]:
    return {
        "version": version.version,
        "changedAt": version.changed_at,
        "changedBy": version.changed_by,
        **values_json(version.settings),
        "change": str(version.version) if version.version > 1 else None,
    }


def values_json(settings: SegmentSettings) -> dict[str, Any]:
    """Return the JSON of the settings themselves, without their version."""
    return camel(settings.model_dump())
