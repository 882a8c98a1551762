"""``/fields``: the own fields of all customers. Admins define them."""

from collections.abc import Mapping

from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.responses import Response

from service.core.own_fields import (
    LONGEST_CHOICE,
    LONGEST_LABEL,
    MOST_CHOICES,
    MOST_FIELDS,
    FieldKind,
)
from service.core.scopes import Actor
from service.http.api import own_fields
from service.http.api.own_fields import FieldPatch, FieldPath, NewField
from service.http.dashboard.own_field_words import own_fields_of
from service.http.dashboard.render import done, page
from service.http.dashboard.viewer import Admin, Form, Viewer
from service.http.problems import ProblemError

router = APIRouter(prefix="/fields", include_in_schema=False)

_INVALID, _CONFLICT = 422, 409
_KINDS = {
    FieldKind.TEXT: "a text",
    FieldKind.NUMBER: "a number",
    FieldKind.DATE: "a date",
    FieldKind.CHOICE: "a choice",
}
_NEW = ""
"""Stands for the key of the field that is added."""


@router.get("")
async def show(request: Request, actor: Viewer) -> Response:
    """Show the fields, and a form that adds one."""
    return await _page(request, actor)


@router.post("")
async def add(request: Request, actor: Admin, fields: Form) -> Response:
    """Define a field, or show the page again with what is wrong."""
    kind = fields.get("kind", "")
    choices = _lines(fields) if kind == FieldKind.CHOICE else []
    try:
        body = NewField.model_validate(
            {"label": fields.get("label", ""), "kind": kind, "choices": choices}
        )
        await own_fields.created(request, actor.name, body)
    except (ValidationError, ProblemError) as error:
        return await _page(request, actor, fault=(_NEW, _sentence(error)), entered=fields)
    return done("/fields", "field-added")


@router.post("/{key}")
async def change(request: Request, actor: Admin, key: FieldPath, fields: Form) -> Response:
    """Rename a field, move it, or change its choices."""
    try:
        body = FieldPatch.model_validate(_changes(fields))
        await own_fields.changed(request, actor.name, key, body)
    except (ValidationError, ProblemError) as error:
        if isinstance(error, ProblemError) and error.problem.status not in {_INVALID, _CONFLICT}:
            raise
        return await _page(request, actor, fault=(key, _sentence(error)))
    return done("/fields", "saved")


@router.get("/{key}/delete")
async def confirm(request: Request, actor: Admin, key: FieldPath) -> Response:
    """Show how many values would be deleted, and ask for confirmation."""
    field, usage = await own_fields.used(request, key)
    return page(request, actor, "delete_field.html", field=field, customers=usage.customers)


@router.post("/{key}/delete")
async def delete(request: Request, actor: Admin, key: FieldPath) -> Response:
    """Delete a field with all its values."""
    await own_fields.deleted(request, actor.name, key)
    return done("/fields", "field-deleted")


def _changes(fields: Mapping[str, str]) -> dict[str, object]:
    """Return what a form changes. A choice whose line was emptied is left out."""
    if fields.get("position"):
        return {"position": fields["position"]}
    changes: dict[str, object] = {"label": fields.get("label", "")}
    kept, renamed = list[str](), dict[str, str]()
    for number in range(MOST_CHOICES):
        was, now = fields.get(f"was.{number}"), fields.get(f"choice.{number}", "").strip()
        if was and now:
            kept.append(now)
            renamed |= {was: now} if was != now else {}
    if "more" in fields:
        changes |= {"choices": [*kept, *_lines(fields)], "renamed": renamed}
    return changes


def _lines(fields: Mapping[str, str]) -> list[str]:
    """Return the choices that were typed, one on a line."""
    return [line.strip() for line in fields.get("more", "").splitlines() if line.strip()]


def _sentence(error: ValidationError | ProblemError) -> str:
    """Return what is wrong, as a sentence."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        if first["loc"][:1] == ("kind",):
            return "Choose a kind."
        limits = {
            "string_too_long": f"{LONGEST_LABEL} characters",
            "too_long": f"{MOST_CHOICES} choices",
        }
        return f"This is too long: at most {limits.get(first['type'], LONGEST_CHOICE)}."
    fault = error.problem.errors[0]
    part = fault.where.removeprefix("body.")
    if part == "label":
        return f"The name {fault.message}."
    if part == "choices":
        return f"The list of choices {fault.message}."
    return f"{fault.message[:1].upper()}{fault.message[1:]}."


async def _page(
    request: Request,
    actor: Actor,
    *,
    fault: tuple[str, str] | None = None,
    entered: Mapping[str, str] | None = None,
) -> Response:
    return page(
        request,
        actor,
        "own_fields.html",
        status=_INVALID if fault else 200,
        own=await own_fields_of(request),
        kinds=_KINDS,
        most=MOST_FIELDS,
        longest_label=LONGEST_LABEL,
        longest_choice=LONGEST_CHOICE,
        fault=fault,
        entered=entered or {},
    )
