"""``/settings``: the segment rules, what a change would do, how far it is, who made which."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from fastapi import APIRouter, Request
from pydantic import ValidationError
from pydantic.alias_generators import to_camel
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import RedirectResponse, Response

from service.core.numbers import whole_number
from service.core.scopes import Actor
from service.core.segment_rules import Precedence
from service.db.engine import in_transaction
from service.db.segments import rule_settings
from service.db.segments.rule_settings import (
    NO_VERSION,
    VERSION_DIGITS,
    OutdatedError,
    SettingsRecord,
)
from service.http.api.rule_settings import SettingsPatch
from service.http.dashboard.render import done, page
from service.http.dashboard.viewer import Admin, Form, Viewer
from service.http.state import snapshot, state_of

router = APIRouter(include_in_schema=False)

_HISTORY = 20
_LABELS = {
    "vip_order_count": "VIP from this many orders",
    "vip_total_spent": "VIP from this much spent",
    "at_risk_days": "At risk after days without an order",
    "inactive_days": "Inactive after days without an order",
    "auto_segmentation": "Automatic segmentation",
    "precedence": "Precedence",
}
_PRECEDENCE = {
    Precedence.RECENCY_FIRST: "Recency first: inactive, at risk, VIP, new, returning",
    Precedence.VALUE_FIRST: "Value first: new, VIP, inactive, at risk, returning",
}
Faults = Mapping[str, str]


@router.get("/settings")
async def read_settings(request: Request, actor: Viewer) -> Response:
    """Show the rules in force, their progress and their history."""
    async with snapshot(request) as connection:
        version = await rule_settings.current(connection)
        return await _page(request, actor, connection, version, _fields(version), {})


@router.get("/settings/preview")
async def no_preview() -> Response:
    """Lead back to the form: a preview belongs to what was typed into it."""
    return RedirectResponse("/settings", status_code=303)


@router.post("/settings/preview")
async def preview(request: Request, actor: Admin, given: Form) -> Response:
    """Show who would move where; nothing is changed."""
    async with snapshot(request) as connection:
        version = await rule_settings.current(connection)
        if _expected(given) != version.version:
            return await _page(request, actor, connection, version, given, {}, outdated=True)
        try:
            proposed = rule_settings.merged(version.settings, _read(given))
        except ValidationError as error:
            return await _page(request, actor, connection, version, given, _faults(error))
        cells = await rule_settings.preview(connection, proposed)
    return page(
        request,
        actor,
        "preview.html",
        heading="What these rules would do",
        back="/settings",
        width="wide",
        given=given,
        version=version,
        changes=_changes(version.settings.model_dump(), proposed.model_dump()),
        labels=_LABELS,
        cells={(cell.previous, cell.segment): cell for cell in cells},
        moving=[cell for cell in cells if cell.previous != cell.segment],
    )


@router.post("/settings")
async def save(request: Request, actor: Admin, given: Form) -> Response:
    """Save, unless somebody else did since the form was shown."""
    expected = _expected(given)
    try:
        fields = _read(given)
        saved = await in_transaction(
            state_of(request).engine, rule_settings.save, actor.name, fields, expected
        )
    except (OutdatedError, ValidationError) as error:
        faults = _faults(error) if isinstance(error, ValidationError) else {}
        async with snapshot(request) as connection:
            version = await rule_settings.current(connection)
            return await _page(
                request, actor, connection, version, given, faults, outdated=not faults
            )
    return done("/settings", "unchanged" if saved.version == expected else "rules-saved")


async def _page(
    request: Request,
    actor: Actor,
    connection: AsyncConnection,
    version: SettingsRecord,
    given: Mapping[str, str],
    faults: Faults,
    *,
    outdated: bool = False,
) -> Response:
    progress = await rule_settings.progress(connection, version.version)
    found, total = await rule_settings.history(connection, _HISTORY + 1)
    values = [past.settings.model_dump() for past in found]
    changes = [_changes(before, after) for after, before in pairwise(values)]
    return page(
        request,
        actor,
        "settings.html",
        status=409 if outdated else 422 if faults else 200,
        version=version,
        given=given,
        faults=faults,
        outdated=outdated,
        now_in_force=_fields(version),
        progress=progress,
        history=list(zip(found[:_HISTORY], [*changes, {}], strict=False)),
        total=total,
        labels=_LABELS,
        precedences=_PRECEDENCE,
    )


def _fields(version: SettingsRecord) -> dict[str, str]:
    values = version.settings.model_dump(mode="json")
    values["auto_segmentation"] = "on" if version.settings.auto_segmentation else ""
    return {name: str(value) for name, value in values.items()}


def _expected(given: Mapping[str, str]) -> int:
    """Read the version that a form was shown with."""
    version = whole_number(given.get("version", ""), VERSION_DIGITS)
    return NO_VERSION if version is None else version


def _read(given: Mapping[str, str]) -> dict[str, Any]:
    """Read a form's fields by the API's own model. Raises ValidationError."""
    whole = {"vip_order_count", "at_risk_days", "inactive_days"}
    values: dict[str, Any] = {name: given.get(name, "").strip() for name in _LABELS}
    for name in whole:
        if (number := whole_number(values[name])) is not None:
            values[name] = number
    values["auto_segmentation"] = values["auto_segmentation"] == "on"
    camel = {to_camel(name): value for name, value in values.items()}
    return SettingsPatch.model_validate(camel).given()


def _faults(error: ValidationError) -> Faults:
    """Say per field what is wrong; what concerns several stands at the later of the days."""
    faults = dict[str, str]()
    for fault in error.errors():
        place = str(fault["loc"][0]) if fault["loc"] else ""
        name = next((n for n in _LABELS if to_camel(n) == place or n == place), "inactive_days")
        message = fault["msg"].removeprefix("Value error, ").removeprefix("Input ")
        faults[name] = message[:1].upper() + message[1:]
    return faults


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {name: (before[name], after[name]) for name in _LABELS if before[name] != after[name]}
