"""``/settings``: rules, what counts, the time zone; a change's preview, progress and history."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from itertools import pairwise
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import ValidationError
from pydantic.alias_generators import to_snake
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import RedirectResponse, Response

from service.core.counting import CountFrom
from service.core.numbers import whole_number
from service.core.scopes import Actor
from service.core.segment_rules import ORDER, OTHERWISE, Precedence, SegmentSettings
from service.core.time_zones import time_zone_names
from service.db.engine import in_transaction
from service.db.segments import rule_settings
from service.db.segments.rule_settings import (
    NO_VERSION,
    VERSION_DIGITS,
    OutdatedError,
    SettingsRecord,
)
from service.http.api.rule_settings import SettingsPatch
from service.http.auth.guard import within
from service.http.budgets import PREVIEWS
from service.http.dashboard.formats import Formats, formats_of, store_clock
from service.http.dashboard.render import done, page
from service.http.dashboard.viewer import Admin, Form, Viewer
from service.http.state import snapshot, state_of

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True)
class NumberField:
    """A limit of the rules, in the form and in the history."""

    name: str
    label: str
    hint: str

    @property
    def least(self) -> int:
        """The smallest value that `SegmentSettings` accepts."""
        return self._bound("ge")

    @property
    def most(self) -> int:
        """The greatest value that `SegmentSettings` accepts."""
        return self._bound("le")

    @property
    def step(self) -> str:
        """The smallest difference between two values: a cent, or one."""
        kind = SegmentSettings.model_fields[self.name].annotation
        return "0.01" if kind is Decimal else "1"

    def _bound(self, side: str) -> int:
        bounds = SegmentSettings.model_fields[self.name].metadata
        return int(next(getattr(bound, side) for bound in bounds if hasattr(bound, side)))


NUMBERS = {
    "VIP": (
        NumberField(
            "vip_order_count", "Orders for VIP", "Customers with this many counted orders are VIP."
        ),
        NumberField(
            "vip_total_spent",
            "Amount for VIP",
            "So are customers who spent this much, less refunds.",
        ),
    ),
    "Inactivity": (
        NumberField("at_risk_days", "Days until At Risk", "Counted from the last order."),
        NumberField("inactive_days", "Days until Inactive", "Counted from the last order, too."),
    ),
}
"""The numbers of the form, by heading. A setting that the API can change needs one entry here."""

_LABELS = {
    **{number.name: number.label for group in NUMBERS.values() for number in group},
    "auto_segmentation": "Automatic segmentation",
    "precedence": "Priority of the rules",
    "count_from": "Orders count",
    "count_free_orders": "Free orders count",
    "time_zone": "Time zone of the store",
}
_SWITCHES = ("auto_segmentation", "count_free_orders")
_PRECEDENCE = {Precedence.RECENCY_FIRST: "Recency first", Precedence.VALUE_FIRST: "Value first"}
_COUNT_FROM = {CountFrom.PLACED: "as soon as they are placed", CountFrom.PAID: "once they are paid"}
_REGIONS = frozenset(
    {
        "Africa", "America", "Antarctica", "Arctic", "Asia", "Atlantic", "Australia", "Europe",
        "Indian", "Pacific",
    }
)  # fmt: skip
"""The regions of the time zones to choose from. The other names are old ones for the same zones."""
_FAULTS = {
    "value_error": "Enter more than the days until At Risk.",
    "int_type": "Enter a whole number.",
    "less_than": "This amount is too large.",
    "enum": "Choose one of the two.",
}
"""A sentence for each type of error, by pydantic's name of the type."""
_NO_ZONE = "Choose a time zone from the list. Its name is written like Europe/Berlin."
_HISTORY = 20
Faults = Mapping[str, str]
"""A whole sentence for each field that is wrong."""


@router.get("/settings")
async def read_settings(
    request: Request,
    actor: Viewer,
    again: Annotated[str, Query(pattern=rf"^\d{{0,{VERSION_DIGITS}}}$")] = "",
) -> Response:
    """Show the rules in force, how far they are applied, and their history.

    The form has the rules of the version ``again``, if the history shows it. So a wrong change can
    be undone: its author looks at the former rules and saves them as a new version.
    """
    async with snapshot(request) as connection:
        version = await rule_settings.current(connection)
        versions, _ = await rule_settings.history(connection, _HISTORY)
        former = next((each for each in versions if str(each.version) == again), None)
        fields = {**_fields(former), "again": again} if former else _fields(version)
        return await _page(request, actor, connection, version, fields, {})


@router.get("/settings/preview")
async def no_preview() -> Response:
    """Redirect to the form, because without a sent form there is nothing to preview."""
    return RedirectResponse("/settings", status_code=303)


@router.post("/settings/preview", dependencies=[within(PREVIEWS)])
async def preview(request: Request, actor: Admin, entered: Form) -> Response:
    """Show which customers would move to which segment. Nothing is changed."""
    async with snapshot(request) as connection:
        version = await rule_settings.current(connection)
        if _expected(entered) != version.version:
            return await _page(request, actor, connection, version, entered, {}, outdated=True)
        try:
            proposed = rule_settings.merged(version.settings, _read(entered))
        except ValidationError as error:
            return await _page(request, actor, connection, version, entered, _faults(error))
        previewed = await rule_settings.preview(connection, proposed)
        await store_clock(request, connection)
    return page(
        request,
        actor,
        "preview.html",
        heading="What this would do",
        back="/settings",
        width="wide",
        entered=entered,
        version=version,
        changes=_changes(version.settings, proposed, formats_of(request)),
        fields=tuple(_LABELS),
        cells={(cell.previous, cell.segment): cell for cell in previewed.cells},
        previewed=previewed,
    )


@router.post("/settings")
async def save(request: Request, actor: Admin, entered: Form) -> Response:
    """Save the rules, unless somebody else has saved others since the form was shown."""
    expected = _expected(entered)
    try:
        saved = await in_transaction(
            state_of(request).engine, rule_settings.save, actor.name, _read(entered), expected
        )
    except (OutdatedError, ValidationError) as error:
        faults = _faults(error) if isinstance(error, ValidationError) else {}
        async with snapshot(request) as connection:
            version = await rule_settings.current(connection)
            return await _page(
                request, actor, connection, version, entered, faults, outdated=not faults
            )
    return done("/settings", "unchanged" if saved.version == expected else "rules-saved")


async def _page(
    request: Request,
    actor: Actor,
    connection: AsyncConnection,
    version: SettingsRecord,
    entered: Mapping[str, str],
    faults: Faults,
    *,
    outdated: bool = False,
) -> Response:
    await store_clock(request, connection)
    progress = await rule_settings.progress(connection, version.version)
    versions, total = await rule_settings.history(connection, _HISTORY + 1)
    f = formats_of(request)
    changes = [_changes(old.settings, new.settings, f) for new, old in pairwise(versions)]
    return page(
        request,
        actor,
        "settings.html",
        status=409 if outdated else 422 if faults else 200,
        version=version,
        entered=entered,
        faults=faults,
        outdated=outdated,
        now_in_force=_fields(version),
        progress=progress,
        history=list(zip(versions[:_HISTORY], [*changes, []], strict=False)),
        total=total,
        numbers=NUMBERS,
        labels=_LABELS,
        precedences={choice: _in_order(choice) for choice in Precedence},
        count_from=_COUNT_FROM,
        zones=_zones(),
    )


def _in_order(choice: Precedence) -> str:
    """Return a precedence and its segments, in the order in which their rules are tried."""
    segments = ", ".join(segment.label for segment in (*ORDER[choice], OTHERWISE))
    return f"{_PRECEDENCE[choice]}: {segments}"


@cache
def _zones() -> dict[str, list[str]]:
    """Return the time zones to choose from, by region."""
    by_region = defaultdict(list)
    for name in sorted(time_zone_names()):
        region, _, place = name.partition("/")
        if place and region in _REGIONS:
            by_region[region].append(name)
    return dict(by_region)


def _fields(version: SettingsRecord) -> dict[str, str]:
    values = version.settings.model_dump(mode="json")
    for name in _SWITCHES:
        values[name] = "on" if values[name] else ""
    return {name: str(value) for name, value in values.items()}


def _expected(entered: Mapping[str, str]) -> int:
    """Read the version that a form was shown with."""
    version = whole_number(entered.get("version", ""), VERSION_DIGITS)
    return NO_VERSION if version is None else version


def _read(entered: Mapping[str, str]) -> dict[str, Any]:
    """Read a form's fields with the API's own model. Raises ValidationError."""
    values: dict[str, Any] = {name: entered.get(name, "").strip() for name in _LABELS}
    for name, field in SegmentSettings.model_fields.items():
        if field.annotation is int and (number := whole_number(values[name])) is not None:
            values[name] = number
    for name in _SWITCHES:
        values[name] = values[name] == "on"
    return SettingsPatch.model_validate(values).changes()


def _faults(error: ValidationError) -> Faults:
    """Return what is wrong with each field. An error of no single field is at `inactive_days`."""
    faults = dict[str, str]()
    for fault in error.errors():
        name = to_snake(str(fault["loc"][0])) if fault["loc"] else ""
        limits = fault.get("ctx", {})
        if fault["type"] == "greater_than_equal":
            sentence = f"Enter {limits['ge']:,} or more."
        elif fault["type"] == "less_than_equal":
            sentence = f"Enter {limits['le']:,} or less."
        elif name == "time_zone":
            sentence = _NO_ZONE
        else:
            sentence = _FAULTS.get(fault["type"], "Enter an amount with at most two decimals.")
        faults[name if name in _LABELS else "inactive_days"] = sentence
    return faults


def _changes(
    before: SegmentSettings, after: SegmentSettings, f: Formats
) -> list[tuple[str, str, str]]:
    """Return label, old value and new value of each difference, as people read them."""
    return [
        (label, _in_words(name, getattr(before, name), f), _in_words(name, getattr(after, name), f))
        for name, label in _LABELS.items()
        if getattr(before, name) != getattr(after, name)
    ]


def _in_words(name: str, value: Any, f: Formats) -> str:
    if name in _SWITCHES:
        return "on" if value else "off"
    if name == "count_from":
        return _COUNT_FROM[value]
    if name == "time_zone":
        return str(value)
    if name == "precedence":
        return _PRECEDENCE[value]
    return f.money(value) if name == "vip_total_spent" else f.number(value)
