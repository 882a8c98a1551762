"""How one browser shows the pages: colours, density, columns, keys. A cookie remembers it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Self
from urllib.parse import parse_qsl, urlencode

from service.db.customers.sorting import Sort

COOKIE = "crm_view"
YEAR_SECONDS = 365 * 86_400
_CHOSEN = "columns"
"""A form that has this field has a field for each column that is shown."""


class Theme(StrEnum):
    """The colours of the pages."""

    AUTO = "auto"
    """As the system is set."""
    LIGHT = "light"
    DARK = "dark"

    @property
    def label(self) -> str:
        """The name that staff read."""
        return self.value.capitalize()


COLUMNS = {
    Sort.EMAIL: "E-mail",
    Sort.TOTAL_ORDERS: "Orders",
    Sort.TOTAL_SPENT: "Total Spent",
    Sort.LAST_ORDER_DATE: "Last Order",
    Sort.DATE_CREATED: "Created",
    Sort.SEGMENT: "Segment",
    Sort.CHANCE: "Chance 90 d",
    Sort.EXPECTED_VALUE: "Expected 12 m",
}
"""The columns of the list that can be left out. The name and the actions are always there."""
PREDICTED = {
    Sort.CHANCE: "Chance of an order within 90 days",
    Sort.EXPECTED_VALUE: "Expected within 12 months",
}
"""The columns that are only there if something is predicted, and what they mean."""
_USUAL = tuple(column for column in COLUMNS if column is not Sort.DATE_CREATED)


@dataclass(frozen=True)
class View:
    """What the cookie says. Invalid parts of it are ignored."""

    theme: Theme = Theme.AUTO
    compact: bool = False
    """Whether lists have less space between their rows."""
    keys: bool = True
    """Whether single keys are shortcuts."""
    columns: tuple[Sort, ...] = _USUAL

    @classmethod
    def read(cls, cookie: str) -> Self:
        """Read a cookie."""
        return cls().changed(dict(parse_qsl(cookie[:500])))

    def changed(self, chosen: Mapping[str, str]) -> Self:
        """Return a copy with what a form or a cookie chooses. What it does not name stays."""
        shown = tuple(column for column in COLUMNS if column.value in chosen)
        return type(self)(
            theme=Theme(chosen["theme"]) if chosen.get("theme") in set(Theme) else self.theme,
            compact=chosen["compact"] == "on" if "compact" in chosen else self.compact,
            keys=chosen["keys"] == "on" if "keys" in chosen else self.keys,
            columns=shown if _CHOSEN in chosen else self.columns,
        )

    @property
    def cookie(self) -> str:
        """The text to remember it by."""
        switches = {"compact": self.compact, "keys": self.keys}
        written = {name: "on" if on else "off" for name, on in switches.items()}
        columns = {_CHOSEN: "1"} | {column.value: "1" for column in self.columns}
        return urlencode({"theme": self.theme.value} | written | columns)
