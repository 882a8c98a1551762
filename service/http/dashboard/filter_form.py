"""The forms that add filters to the list: a control for each filter, by heading.

Those of own fields have a page of their own: there may be many, and the list has to stay small.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pydantic.alias_generators import to_camel

from service.core.own_fields import FieldKind, OwnField
from service.db.customers.criteria import Control, Group
from service.db.customers.customer_filter import CRITERIA
from service.db.customers.own_fields.field_filter import TESTS_OF, FieldFilter, FieldTest


class FilterControl(NamedTuple):
    """A control of a form. ``name`` is that of the filter, as addresses write it."""

    name: str
    label: str
    control: Control
    choices: Sequence[str] = ()


_ELSEWHERE = {"date_from", "date_to"}
"""Filters that have another control on the page."""
CONTROLS: Mapping[Group, Sequence[FilterControl]] = {
    group: [
        FilterControl(to_camel(field), criterion.label, criterion.control)
        for field, criterion in CRITERIA.items()
        if criterion.group is group and field not in _ELSEWHERE
    ]
    for group in Group
}
_USUAL = (
    "lastOrderWithin",
    "lastOrderBefore",
    "ordersFrom",
    "spentFrom",
    "emailOptIn",
    "tagsAny",
)
_BY_NAME = {control.name: control for controls in CONTROLS.values() for control in controls}
USUAL: Sequence[FilterControl] = [_BY_NAME[name] for name in _USUAL]
"""The controls that stand first. The others wait in sections by heading."""
LABELS: Mapping[str, str] = {
    "segment": "Segment",
    **{to_camel(field): criterion.label for field, criterion in CRITERIA.items()},
}
"""What each filter is called, by its name in addresses."""

_MOST_SUGGESTED = 20
"""Choices that a control suggests. A page with all of them would be too large."""


def own_controls(own: Sequence[OwnField]) -> Mapping[str, Sequence[FilterControl]]:
    """Return the controls of filters by own fields, by the field's label."""
    return {
        field.label: [
            FilterControl(each.name, each.label(field), each.control(field), _suggested(field))
            for test in TESTS_OF[field.kind]
            if test is not FieldTest.IS or field.kind is FieldKind.CHOICE
            for each in [FieldFilter(field.key, test)]
        ]
        for field in own
    }


def labels_with(own: Sequence[OwnField]) -> Mapping[str, str]:
    """Return what each filter is called, those of own fields too."""
    return {
        **LABELS,
        **{
            each.name: each.label(field)
            for field in own
            for each in (FieldFilter(field.key, test) for test in FieldTest)
        },
    }


def _suggested(field: OwnField) -> Sequence[str]:
    return field.choices if len(field.choices) <= _MOST_SUGGESTED else ()
