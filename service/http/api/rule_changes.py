"""``/api/v1/settings``: preview other settings, and follow the progress of a saved change."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Request
from pydantic import ConfigDict, Field, ValidationError
from starlette.responses import Response

from service.core.customer_ids import customer_ref
from service.core.json_values import camel
from service.core.numbers import whole_number
from service.core.segment_rules import Segment
from service.db.segments import rule_settings
from service.db.segments.rule_settings import VERSION_DIGITS, Cell, PreviewedCustomer, Progress
from service.db.statistics.counters import percentage
from service.http.api.models import Camel, Collection, collection
from service.http.api.rule_settings import (
    SETTINGS_EXAMPLE,
    SettingsPatch,
    impossible,
    values_json,
)
from service.http.auth.guard import Reader, within
from service.http.budgets import PREVIEWS
from service.http.json_response import Json
from service.http.problems import DOCUMENTED, Problem, ProblemError
from service.http.state import snapshot

router = APIRouter(prefix="/api/v1/settings", tags=["settings"], responses=DOCUMENTED)


class SampleCustomer(Camel):
    """One of the customers that a cell counts, with the figures that they would have."""

    id: str
    name: str | None
    total_orders: int
    total_spent: float
    last_order_date: datetime | None


class MatrixCell(Camel):
    """The customers who are in segment ``from`` and would be in segment ``to``."""

    model_config = ConfigDict(populate_by_name=True)

    from_: Segment = Field(alias="from")
    to: Segment
    count: int
    sample: list[SampleCustomer] = Field(description="The first of them by id.")


class BeforeAfter(Camel):
    """What something adds up to now, and what it would."""

    before: float
    after: float


class Preview(Collection):
    """The matrix of segments before and after. Cells without customers are left out."""

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
                    "settings": SETTINGS_EXAMPLE,
                    "basedOnVersion": 1,
                    "customersConcerned": 1,
                    "events": 1,
                    "customersRecounted": 0,
                    "totalOrders": {"before": 20412, "after": 20412},
                    "totalRevenue": {"before": 1520340.10, "after": 1520340.10},
                }
            ]
        }
    )

    items: list[MatrixCell]
    settings: SettingsPatch = Field(
        description="All settings as proposed, including unchanged ones."
    )
    based_on_version: int = Field(description="Send it as `expectedVersion` when you save.")
    customers_concerned: int = Field(description="Customers who would move to another segment.")
    events: int = Field(description="Events that would be published, one for each move.")
    customers_recounted: int = Field(
        description="Customers who would have other figures, because other orders would count."
    )
    total_orders: BeforeAfter = Field(description="The counted orders of all customers.")
    total_revenue: BeforeAfter = Field(description="What all customers have spent.")


class Recount(Camel):
    """How many orders were counted again so far. Customers are judged after that."""

    total: int
    examined: int
    changed: int = Field(description="Orders that count now and did not before, or the reverse.")


class Change(Camel):
    """The progress of a change: what a new version was applied to so far."""

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
                    "recount": None,
                    "startedAt": "2026-11-22T10:00:00Z",
                    "finishedAt": None,
                }
            ]
        }
    )

    id: str
    version: int
    status: Literal["running", "finished", "superseded"] = Field(
        description="`superseded`: newer settings were saved before it finished."
    )
    total: int = Field(description="Customers.")
    examined: int
    moved: int
    percentage: float = Field(description="Of the customers, and of the orders to count again.")
    recount: Recount | None = Field(description="Null if the same orders count as before.")
    started_at: datetime
    finished_at: datetime | None


@router.post("/preview", response_model=Preview, dependencies=[within(PREVIEWS)])
async def preview_settings(request: Request, _: Reader, body: SettingsPatch) -> Response:
    """Show who would move from which segment to which, without saving anything.

    The same code as for saved settings computes it, in one snapshot. Segments set by hand stay.
    `total` counts cells.
    """
    async with snapshot(request) as connection:
        current = await rule_settings.current(connection)
        try:
            proposed = rule_settings.merged(current.settings, body.changes())
        except ValidationError as error:
            raise impossible(error, body) from None
        previewed = await rule_settings.preview(connection, proposed)
    before, after = previewed.before, previewed.after
    return Json(
        {
            **collection([_cell(cell) for cell in previewed.cells]),
            "settings": values_json(proposed),
            "basedOnVersion": current.version,
            "customersConcerned": previewed.moves,
            "events": previewed.moves,
            "customersRecounted": previewed.recounted,
            "totalOrders": {"before": before.orders, "after": after.orders},
            "totalRevenue": {"before": before.revenue, "after": after.revenue},
        }
    )


@router.get(
    "/changes/{id}",
    response_model=Change,
    responses={404: {"model": Problem, "description": "There is no such change."}},
)
async def read_change(
    request: Request, _: Reader, change_id: Annotated[str, Path(alias="id", examples=["2"])]
) -> Response:
    """Return how many customers a version of the settings was applied to so far."""
    number = whole_number(change_id, VERSION_DIGITS)
    async with snapshot(request) as connection:
        progress = None if number is None else await rule_settings.progress(connection, number)
    if progress is None:
        detail = (
            "There is no change with this id. The first version of the settings is not a change."
        )
        raise ProblemError(404, "Change not found", detail)
    return Json(_change(progress))


def _cell(cell: Cell) -> dict[str, Any]:
    return {
        "from": cell.previous,
        "to": cell.segment,
        "count": cell.customers,
        "sample": [_customer(customer) for customer in cell.sample],
    }


def _customer(customer: PreviewedCustomer) -> dict[str, Any]:
    return camel(customer._asdict()) | {"id": customer_ref(customer.id)}


def _change(change: Progress) -> dict[str, Any]:
    status = "running"
    if change.finished_at is not None:
        status = "superseded" if change.superseded else "finished"
    recount = change.recount
    done = percentage(
        change.examined + (recount.examined if recount else 0),
        change.total + (recount.total if recount else 0),
    )
    return {
        "id": str(change.version),
        "version": change.version,
        "status": status,
        "total": change.total,
        "examined": change.examined,
        "moved": change.moved,
        "percentage": Decimal(100) if status == "finished" else done,
        "recount": recount
        and {"total": recount.total, "examined": recount.examined, "changed": recount.changed},
        "startedAt": change.started_at,
        "finishedAt": change.finished_at,
    }
