"""Turn the body of a request or form into the changes that `db.customers.editing` takes."""

from typing import Any

from service.db.customers.editing import HoldEdit
from service.http.api.schemas import CustomerPatch

_AS_THEY_ARE = ("name", "email", "phone", "notes")
_HOLD = {"segment": "segment", "segment_pinned": "pinned", "segment_pinned_until": "until"}


def columns(body: CustomerPatch) -> dict[str, Any]:
    """Give the columns that were given a value, of an address the parts."""
    given = {name: getattr(body, name) for name in _AS_THEY_ARE if name in body.model_fields_set}
    if "phone" in given:
        given["phone"] = given["phone"] or None
    if "notes" in given:
        given["notes"] = given["notes"] or ""
    if "address" in body.model_fields_set:
        given["address"] = body.address and body.address.model_dump(exclude_unset=True)
    if body.preferences:
        given |= body.preferences.model_dump(exclude_unset=True, exclude_none=True)
    return given


def hold(body: CustomerPatch) -> HoldEdit:
    """Give what was said of the segment."""
    return HoldEdit(
        given=frozenset(_HOLD[name] for name in _HOLD if name in body.model_fields_set),
        segment=body.segment and body.segment.value,
        pinned=body.segment_pinned,
        until=body.segment_pinned_until,
    )
