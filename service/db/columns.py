"""Rows as parameters: one JSON array per column, which SQL unpacks side by side.

This takes half the time of typed array parameters, on both ends: a driver inspects and encodes each
element by itself (1.6 µs for a timestamp), while one call writes a JSON array and C code reads it.
"""

from collections.abc import Mapping, Sequence

import orjson


def unpack(columns: Mapping[str, str]) -> str:
    """Return a SELECT of typed rows. Each column has a parameter of its name; see `pack`."""
    typed = ", ".join(f"CAST(u.{name} AS {kind}) AS {name}" for name, kind in columns.items())
    arrays = ", ".join(f"json_array_elements_text(CAST(:{name} AS json))" for name in columns)
    if len(columns) == 1:
        return f"SELECT {typed} FROM {arrays} AS u({', '.join(columns)})"
    return f"""
    SELECT {typed}
    FROM ROWS FROM (
      {arrays}
    ) AS u({", ".join(columns)})"""


def pack(columns: Mapping[str, Sequence[object]]) -> dict[str, str]:
    """Return the parameters for `unpack`. All columns have the same length."""
    return {name: orjson.dumps(values).decode() for name, values in columns.items()}
