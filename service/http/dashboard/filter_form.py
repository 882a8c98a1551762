"""The form that adds filters to the list: a control for each filter, by heading."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pydantic.alias_generators import to_camel

from service.db.customers.criteria import Control, Group
from service.db.customers.customer_filter import CRITERIA


class FilterControl(NamedTuple):
    """A control of the form. ``name`` is that of the filter, as addresses write it."""

    name: str
    label: str
    control: Control


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
LABELS: Mapping[str, str] = {
    "segment": "Segment",
    **{to_camel(field): criterion.label for field, criterion in CRITERIA.items()},
}
"""What each filter is called, by its name in addresses."""
