"""``/api/v1/imports``: files of customers or orders, looked at first and then imported."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Path, Request
from pydantic import ConfigDict, Field
from pydantic.config import JsonDict
from starlette.responses import Response

from service.core.import_states import ImportState
from service.core.json_values import camel
from service.core.numbers import whole_number
from service.db.operations import imports
from service.db.operations.imports import Import
from service.http.api import import_steps
from service.http.api.cursors import Limit
from service.http.api.dead_letters import LetterCursor
from service.http.api.models import Camel, Collection, ShortText, collection
from service.http.auth.guard import Reader, Writer, within
from service.http.body_limits import UPLOAD
from service.http.budgets import UPLOADS
from service.http.json_response import Json
from service.http.problems import DOCUMENTED, Problem
from service.http.state import snapshot
from service.http.uploads import KIND, Upload
from service.transfer.import_options import ImportOptions

router = APIRouter(prefix="/api/v1/imports", tags=["imports"], responses=DOCUMENTED)

_NOT_FOUND: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "There is no such import; perhaps it was deleted."}
}
_CONFLICT: dict[int | str, dict[str, Any]] = {
    409: {"model": Problem, "description": "The import is in another state, or its file is gone."}
}
_SUMMARY: JsonDict = {
    "kind": "orders",
    "format": "shopify-orders",
    "title": "Shopify, export of orders",
    "new": 114,
    "changed": 0,
    "unchanged": 0,
    "older": 0,
    "refused": 0,
    "lines": {"total": 208, "header": 1, "empty": 0, "otherKind": 0, "read": 207, "refused": 0},
}
_IMPORT: JsonDict = {
    "id": "7",
    "fileName": "orders_export.csv",
    "size": 81402,
    "begunAt": "2026-11-28T10:00:00Z",
    "begunBy": "jane@example.com",
    "state": "ready",
    "applies": False,
    "step": None,
    "done": 0,
    "total": 0,
    "finishedAt": "2026-11-28T10:00:02Z",
    "error": None,
    "options": {},
    "summary": [_SUMMARY],
    "report": [_SUMMARY],
    "hasFile": True,
    "hasRefused": False,
}
_CSV: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            "text/csv": {
                "example": "Line,Column,Problem,What to do\r\n3,Email,is empty,give it a value\r\n"
            }
        },
        "description": "CSV in UTF-8, separated by commas, with a header line.",
    }
}


class Options(Camel):
    """How to read a file. An empty option is not given; `docs/importing.md` explains each."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"format": "customers", "mapping": ["Mail=Email"]}]}
    )

    kind: ShortText = ""
    format: ShortText = ""
    mapping: list[ShortText] = Field([], max_length=100, description="Each is `THEIRS=ours`.")
    constants: list[ShortText] = Field([], max_length=100, description="Each is `ours=value`.")
    encoding: ShortText = ""
    time_zone: ShortText = ""
    date_format: ShortText = ""
    source: ShortText = ""
    as_of: ShortText = ""
    clear_empty: bool = False
    hold_segments: bool = False


class ImportDocument(Camel):
    """An import, as it stands."""

    model_config = ConfigDict(json_schema_extra={"examples": [_IMPORT]})

    id: str
    file_name: str
    size: int
    begun_at: datetime
    begun_by: str
    state: ImportState
    applies: bool = Field(description="Whether the latest run writes. If not, it is a dry run.")
    step: str | None = Field(description="What a run is doing: `Reading` or `Writing`.")
    done: int
    total: int
    finished_at: datetime | None
    error: str | None = Field(description="Why it failed. Deleted after a day.")
    options: dict[str, Any]
    summary: list[dict[str, Any]] | None = Field(
        description="Format and counts, for each kind of records that the file has."
    )
    report: list[dict[str, Any]] | None = Field(
        description="The same with first records, sums and refused lines, as `crm import --json` "
        "prints them. It is personal: null after a day, and in lists."
    )
    has_file: bool = Field(description="Whether the file is still here.")
    has_refused: bool = Field(description="Whether there is a list of refused lines.")


class ImportDocuments(Collection):
    """A page of imports."""

    items: list[ImportDocument]


def _number(number: Annotated[str, Path(alias="id", examples=["7"])]) -> int:
    found = whole_number(number)
    if found is None:
        raise import_steps.not_found()
    return found


Number = Annotated[int, Depends(_number)]
_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            KIND: {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        **{name: {"type": "string"} for name in import_steps.FIELDS},
                    },
                    "additionalProperties": False,
                },
                "example": {"file": "orders_export.csv", "source": "my-shop"},
            }
        },
    }
}


@router.post(
    "",
    status_code=202,
    response_model=ImportDocument,
    dependencies=[within(UPLOADS)],
    openapi_extra={UPLOAD: True, **_FORM},
)
async def send_file(request: Request, actor: Writer) -> Response:
    """Send a file as the field `file` of a form. A dry run begins, and nothing is changed.

    The other fields are options. `map` and `set` may be repeated. Ask for the import until its
    state is `ready`, look at the report, and then apply it.
    """
    upload = await Upload.opened(request)
    number = await import_steps.received(request, actor, upload)
    return await _accepted(request, number)


@router.get("", response_model=ImportDocuments)
async def list_imports(
    request: Request, _: Reader, limit: Limit = 50, cursor: LetterCursor = None
) -> Response:
    """List imports, the newest first."""
    async with snapshot(request) as connection:
        before = int(cursor) if cursor else None
        found, total = await imports.latest(connection, before, limit + 1)
    shown = found[:limit]
    next_cursor = str(shown[-1].id) if len(found) > limit else None
    return Json(
        collection([_document(each) | {"report": None} for each in shown], total, next_cursor)
    )


@router.get("/{id}", response_model=ImportDocument, responses=_NOT_FOUND)
async def read_import(request: Request, _: Reader, number: Number) -> Response:
    """Read an import: how far it is, and what its latest run says."""
    return Json(_document(await import_steps.existing(request, number)))


@router.post(
    "/{id}/preview",
    status_code=202,
    response_model=ImportDocument,
    responses=_NOT_FOUND | _CONFLICT,
)
async def preview_import(
    request: Request, actor: Writer, number: Number, options: Annotated[Options, Body()]
) -> Response:
    """Look at the file again, with these options in place of those before."""
    wanted = ImportOptions(**options.model_dump())
    await import_steps.run_again(request, actor, number, applies=False, options=wanted)
    return await _accepted(request, number)


@router.post(
    "/{id}/apply",
    status_code=202,
    response_model=ImportDocument,
    responses=_NOT_FOUND | _CONFLICT,
)
async def apply_import(request: Request, actor: Writer, number: Number) -> Response:
    """Import the file, or go on after it stopped. What was imported before changes nothing."""
    await import_steps.run_again(request, actor, number, applies=True)
    return await _accepted(request, number)


@router.post("/{id}/stop", response_model=ImportDocument, responses=_NOT_FOUND)
async def stop_import(request: Request, _: Writer, number: Number) -> Response:
    """Stop a running import. What it has written stays."""
    await import_steps.stop(request, number)
    return Json(_document(await import_steps.existing(request, number)))


@router.delete("/{id}", status_code=204, responses=_NOT_FOUND | _CONFLICT)
async def delete_import(request: Request, _: Writer, number: Number) -> Response:
    """Delete an import that has written nothing, and its file."""
    await import_steps.delete(request, number)
    return Response(status_code=204)


@router.get("/{id}/refused.csv", response_class=Response, responses=_NOT_FOUND | _CSV)
async def read_refused_lines(request: Request, _: Writer, number: Number) -> Response:
    """Download the list of refused lines: where, what is wrong, and what to do."""
    return import_steps.refused_csv(request, await import_steps.existing(request, number))


async def _accepted(request: Request, number: int) -> Response:
    found = await import_steps.existing(request, number)
    headers = {"Location": f"/api/v1/imports/{number}"}
    return Json(_document(found), status_code=202, headers=headers)


def _document(found: Import) -> dict[str, Any]:
    shown = {name: getattr(found, name) for name in _SHOWN}
    given = {name: value for name, value in asdict(ImportOptions(**found.options)).items() if value}
    return camel(shown) | {"id": str(found.id), "options": camel(given)}


_SHOWN = tuple(name for name in ImportDocument.model_fields if name not in {"id", "options"})
