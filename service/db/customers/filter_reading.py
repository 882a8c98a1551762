"""Read a filter as a form or an address has it, and say what is wrong with each of its fields."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic.alias_generators import to_camel

from service.core.own_fields import OwnField
from service.db.customers.customer_filter import CustomerFilter
from service.db.customers.own_fields.field_filter import FieldFilter


class Wrong(NamedTuple):
    """A value that no filter can have."""

    written: str
    why: str
    """A sentence that says what is wrong and how to mend it."""


_AMOUNT = "Enter an amount, such as 100 or 99.50."
_SENTENCES = {
    "int_parsing": "Enter a whole number.",
    "int_from_float": "Enter a whole number.",
    "int_parsing_size": "Enter a smaller number.",
    "decimal_parsing": _AMOUNT,
    "finite_number": _AMOUNT,
    "decimal_max_places": "Enter an amount with at most two decimals.",
    "bool_parsing": "Choose yes or no.",
    "enum": "Choose one of the segments.",
    "string_pattern_mismatch": "Enter the three letters of a currency, such as EUR.",
}
_WITH_LIMITS = {
    "greater_than_equal": "Enter {ge:,} or more.",
    "less_than_equal": "Enter {le:,} or less.",
    "string_too_long": "Enter at most {max_length} characters.",
    "too_long": "Enter at most {max_length} of them.",
}
"""A sentence for each type of error, by pydantic's name of the type."""


def read_filter(
    written: Mapping[str, Sequence[str]], fields: Sequence[OwnField] = ()
) -> tuple[CustomerFilter, dict[str, Wrong]]:
    """Return the filter, and by name what is wrong. A wrong field leaves out only itself.

    ``fields`` are the own fields that there are. Blank values and unknown names are ignored.
    """
    found, wrong = dict[str, Any](), dict[str, Wrong]()
    known = {to_camel(field): field for field in CustomerFilter.model_fields}
    known |= {name: name for name in written if FieldFilter.named(name)}
    for name, field in known.items():
        values = [value.strip() for value in written.get(name, ()) if value.strip()]
        if not values:
            continue
        info = CustomerFilter.model_fields.get(field)
        takes_several = info is None or info.default == []
        try:
            one = CustomerFilter.model_validate({name: values if takes_several else values[-1]})
        except ValidationError as error:
            wrong[name] = Wrong(", ".join(values), _sentence(error))
            continue
        if misfit := one.misfits(fields).get(name):
            wrong[name] = Wrong(", ".join(values), f"This {misfit}.")
        else:
            found[field] = getattr(one, field)
    return CustomerFilter.model_construct(**found), wrong


def _sentence(error: ValidationError) -> str:
    fault = error.errors(include_url=False)[0]
    if sentence := _SENTENCES.get(fault["type"]):
        return sentence
    if sentence := _WITH_LIMITS.get(fault["type"]):
        return sentence.format(**fault["ctx"])
    return f"This {fault['msg'].removeprefix('Value error, ')}."
