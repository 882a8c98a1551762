"""The CDNOW sample: real purchases, in a file packaged beside this module.

Source: Fader and Hardie, "Forecasting Repeat Sales at CDNOW: A Case Study", Interfaces 31 (2001).
"""

from datetime import date
from decimal import Decimal
from functools import cache
from typing import NamedTuple

from service.demo.packaged import rows

SOURCE_NOTE = (
    "Purchases: the CDNOW sample of Fader and Hardie (Interfaces 31, 2001). "
    "Names and addresses are made up."
)
"""The demo prints this, so that people know which data are real."""


class Purchase(NamedTuple):
    """A line of the file. Two equal lines are two purchases; ``line`` tells them apart."""

    line: int
    customer: int
    day: date
    cds: int
    dollars: Decimal


@cache
def purchases() -> tuple[Purchase, ...]:
    """Return all 6,919 purchases in the order of the file; lines count from 1."""
    return tuple(
        Purchase(line, int(customer), date.fromisoformat(day), int(cds), Decimal(dollars))
        for line, (customer, day, cds, dollars) in enumerate(rows("cdnow"), 1)
    )
