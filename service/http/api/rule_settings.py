"""``/api/v1/settings``: the rules' limits, their history, a preview, the progress of a change."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Path, Query, Request
from pydantic import ConfigDict, Field, StrictBool, StrictInt, ValidationError, WithJsonSchema
from pydantic.alias_generators import to_camel
from pydantic.config import JsonDict
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from service.core.customer_ids import customer_ref
from service.core.numbers import whole_number
from service.core.segment_rules import Precedence, Segment, SegmentSettings
from service.db.engine import in_transaction
from service.db.segments import rule_settings
from service.db.segments.rule_settings import (
    NO_VERSION,
    VERSION_DIGITS,
    Cell,
    OutdatedError,
    Progress,
    SettingsRecord,
)
from service.http.api.schemas import Camel, Collection
from service.http.auth.guard import Admin, Reader
from service.http.json_response import Json
from service.http.problems import DOCUMENTED, Problem, ProblemError, invalid
from service.http.state import snapshot, state_of

router = APIRouter(prefix="/api/v1/settings", tags=["settings"], responses=DOCUMENTED)

_MOST = 1_000_000
_LONGEST_DAYS = 36_500
_OUTDATED: dict[int | str, dict[str, Any]] = {
    409: {"model": Problem, "description": "Not `expectedVersion` any more; see `current`."},
    412: {"model": Problem, "description": "`If-Match` does not hold any more; see `current`."},
}
_EXAMPLE: JsonDict = {
    "vipOrderCount": 3,
    "vipTotalSpent": 500.00,
    "atRiskDays": 60,
    "inactiveDays": 90,
    "autoSegmentation": True,
    "precedence": "recency_first",
}


class SettingsPatch(Camel):
    """What to change; what is absent or null stays. At-risk days must be fewer than inactive."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"atRiskDays": 45}, _EXAMPLE]})

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

    def given(self) -> dict[str, Any]:
        """Only what is to change, by the settings' own names."""
        return self.model_dump(include=set(SegmentSettings.model_fields), exclude_none=True)


class NewSettings(SettingsPatch):
    """The same, to be saved."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"atRiskDays": 45, "expectedVersion": 1}]}
    )

    expected_version: StrictInt | None = Field(
        None, description="Refuse with 409 when another version is in force by now."
    )


class SettingsVersion(Camel):
    """A version of the settings: who made it, when."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "version": 2,
                    "changedAt": "2026-11-22T10:00:00Z",
                    "changedBy": "jane@example.com",
                    **_EXAMPLE,
                    "change": "2",
                }
            ]
        }
    )

    version: int
    changed_at: datetime
    changed_by: str
    vip_order_count: int = Field(description="`vip` from this many counted orders on")
    vip_total_spent: float = Field(description="or from this net sum on")
    at_risk_days: int = Field(description="`at_risk` this many days after the last order")
    inactive_days: int = Field(description="`inactive` this many days after it")
    auto_segmentation: bool = Field(description="off: nobody is moved by rules or time")
    precedence: Precedence = Field(
        description="`recency_first`: inactive, at_risk, vip, new, returning; `value_first`: "
        "new, vip, inactive, at_risk, returning. The first rule that holds wins."
    )
    change: str | None = Field(
        description="under `/settings/changes/{id}`: how far customers were judged by it; "
        "null for the first version"
    )


class FieldChange(Camel):
    """One setting, before and after."""

    before: Any
    after: Any


class PastVersion(SettingsVersion):
    """A version with what it changed."""

    changed: dict[str, FieldChange]


class SettingsHistory(Collection):
    """Versions, the newest first."""

    items: list[PastVersion]


class SampleCustomer(Camel):
    """One of those in a cell."""

    id: str
    name: str | None
    total_orders: int
    total_spent: float
    last_order_date: datetime | None


class MatrixCell(Camel):
    """How many are in one segment, and would be in another or the same."""

    model_config = ConfigDict(populate_by_name=True)

    from_: Segment = Field(alias="from")
    to: Segment
    count: int
    sample: list[SampleCustomer] = Field(description="the first of them, by id")


class Preview(Collection):
    """The whole matrix; pairs in which nobody is are left out."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "items": [
                        {
                            "from": "returning",
                            "to": "at_risk",
                            "count": 1,
                            "sample": [
                                {
                                    "id": "CUST-1001",
                                    "name": "Jane Smith",
                                    "totalOrders": 2,
                                    "totalSpent": 229.94,
                                    "lastOrderDate": "2026-10-03T09:59:58Z",
                                }
                            ],
                        }
                    ],
                    "total": 1,
                    "nextCursor": None,
                    "settings": _EXAMPLE,
                    "basedOnVersion": 1,
                    "customersConcerned": 1,
                    "events": 1,
                }
            ]
        }
    )

    items: list[MatrixCell]
    settings: SettingsPatch = Field(description="as they would be, all of them")
    based_on_version: int = Field(description="to be given as `expectedVersion` when saving")
    customers_concerned: int = Field(description="those who would move")
    events: int = Field(description="segment changes that would be published: one per move")


class Change(Camel):
    """How far the customers have been judged by a version of the settings."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "2",
                    "version": 2,
                    "status": "running",
                    "total": 20000,
                    "examined": 8000,
                    "moved": 312,
                    "percentage": 40.00,
                    "startedAt": "2026-11-22T10:00:00Z",
                    "finishedAt": None,
                }
            ]
        }
    )

    id: str
    version: int
    status: Literal["running", "finished", "superseded"] = Field(
        description="`superseded`: newer settings came before it was through"
    )
    total: int
    examined: int
    moved: int
    percentage: float
    started_at: datetime
    finished_at: datetime | None


@router.get("", response_model=SettingsVersion)
async def read_settings(request: Request, _: Reader) -> Response:
    """Give the settings in force. The `ETag` is their version."""
    async with snapshot(request) as connection:
        return _answer(await rule_settings.current(connection))


@router.get("/history", response_model=SettingsHistory)
async def settings_history(
    request: Request,
    _: Reader,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: Annotated[str | None, Query(pattern=r"^\d{1,9}$")] = None,
) -> Response:
    """List all versions, the newest first: who changed what, when."""
    async with snapshot(request) as connection:
        # One more than shown: what changed is told against the version before.
        found, total = await rule_settings.history(
            connection, limit + 1, int(cursor) if cursor else None
        )
    before = {version.version: _values(version.settings) for version in found}
    items = []
    for version in found[:limit]:
        old, new = before.get(version.version - 1, {}), _values(version.settings)
        changed = {
            name: {"before": old[name], "after": value}
            for name, value in new.items()
            if name in old and old[name] != value
        }
        items.append({**_version(version), "changed": changed})
    next_cursor = str(items[-1]["version"]) if len(found) > limit else None
    return Json({"items": items, "total": total, "nextCursor": next_cursor})


@router.post("/preview", response_model=Preview)
async def preview_settings(request: Request, _: Reader, body: SettingsPatch) -> Response:
    """Say what saving would do, without doing it: who would move from where to where.

    Computed by what applies it, in one snapshot. Segments set by hand stay. `total` counts cells.
    """
    async with snapshot(request) as connection:
        current = await rule_settings.current(connection)
        proposed = _merged(current.settings, body)
        cells = await rule_settings.preview(connection, proposed)
    moving = sum(cell.customers for cell in cells if cell.previous != cell.segment)
    return Json(
        {
            "items": [_cell(cell) for cell in cells],
            "total": len(cells),
            "nextCursor": None,
            "settings": _values(proposed),
            "basedOnVersion": current.version,
            "customersConcerned": moving,
            "events": moving,
        }
    )


@router.put("", response_model=SettingsVersion, responses=_OUTDATED)
async def save_settings(
    request: Request,
    actor: Admin,
    body: NewSettings,
    if_match: Annotated[str | None, Header(description="the `ETag` it was read with")] = None,
) -> Response:
    """Save a new version. It holds at once; customers are moved in the background.

    `change` names the progress. What changes nothing makes no version. A change that is still
    running ends, because the new one goes through everybody, too.
    """
    expected, refused_with = body.expected_version, 409
    if if_match is not None and if_match.strip() != "*":
        bare = if_match.strip().removeprefix("W/").strip('"')
        given = whole_number(bare)
        expected, refused_with = NO_VERSION if given is None else given, 412

    async def work(connection: AsyncConnection) -> SettingsRecord:
        return await rule_settings.save(connection, actor.name, body.given(), expected)

    try:
        return _answer(await in_transaction(state_of(request).engine, work))
    except OutdatedError as error:
        raise ProblemError(
            refused_with,
            "Changed meanwhile",
            "Somebody saved settings since you read them; `current` is what they are now.",
            current=_version(error.args[0]),
        ) from None
    except ValidationError as error:
        raise _impossible(error, body) from None


@router.get(
    "/changes/{id}",
    response_model=Change,
    responses={404: {"model": Problem, "description": "No such change."}},
)
async def read_change(
    request: Request, _: Reader, change_id: Annotated[str, Path(alias="id", examples=["2"])]
) -> Response:
    """Tell how far a change of the settings is."""
    number = whole_number(change_id, VERSION_DIGITS)
    async with snapshot(request) as connection:
        found = None if number is None else await rule_settings.progress(connection, number)
    if found is None:
        detail = "No change of the settings has this id; the first version had none."
        raise ProblemError(404, "Change not found", detail)
    return Json(_change(found))


def _merged(current: SegmentSettings, body: SettingsPatch) -> SegmentSettings:
    try:
        return rule_settings.merged(current, body.given())
    except ValidationError as error:
        raise _impossible(error, body) from None


def _impossible(error: ValidationError, body: SettingsPatch) -> ProblemError:
    """Name the field that the caller gave; each by itself was checked before."""
    given = body.given()
    field = next((name for name in ("at_risk_days", "inactive_days") if name in given), "")
    message = error.errors()[0]["msg"].removeprefix("Value error, ")
    return invalid(f"body.{to_camel(field)}".rstrip("."), message)


def _answer(version: SettingsRecord) -> Response:
    return Json(_version(version), headers={"ETag": f'"{version.version}"'})


def _version(version: SettingsRecord) -> dict[str, Any]:
    return {
        "version": version.version,
        "changedAt": version.changed_at,
        "changedBy": version.changed_by,
        **_values(version.settings),
        "change": str(version.version) if version.version > 1 else None,
    }


def _values(values: SegmentSettings) -> Mapping[str, Any]:
    return {to_camel(name): value for name, value in values.model_dump().items()}


def _cell(cell: Cell) -> dict[str, Any]:
    return {
        "from": cell.previous,
        "to": cell.segment,
        "count": cell.customers,
        "sample": [
            {
                "id": customer_ref(customer.id),
                "name": customer.name,
                "totalOrders": customer.total_orders,
                "totalSpent": customer.total_spent,
                "lastOrderDate": customer.last_order_date,
            }
            for customer in cell.sample
        ],
    }


def _change(change: Progress) -> dict[str, Any]:
    status = "running"
    if change.finished_at is not None:
        status = "superseded" if change.superseded else "finished"
    share = Decimal(100 * change.examined) / change.total if change.total else Decimal(0)
    return {
        "id": str(change.version),
        "version": change.version,
        "status": status,
        "total": change.total,
        "examined": change.examined,
        "moved": change.moved,
        "percentage": Decimal(100) if status == "finished" else share,
        "startedAt": change.started_at,
        "finishedAt": change.finished_at,
    }
