"""Rows as parameters: one JSON array per column, which SQL unpacks side by side.

Typed array parameters take twice the time on both ends, because a driver inspects and encodes each
element (1.6 µs for a timestamp). A JSON array is written by one call and read by C code.
"""

from collections.abc import Iterable, Mapping, Sequence

import orjson


def unpack(columns: Mapping[str, str]) -> str:
    """Return a SELECT of typed rows. Each column has a parameter of its name; see `pack`."""
    typed = ", ".join(f"CAST(u.{name} AS {kind}) AS {name}" for name, kind in columns.items())
    unpacked = f"{_arrays(columns)} AS u({', '.join(columns)})"
    if len(columns) == 1:
        return f"SELECT {typed} FROM {unpacked}"
    return f"\n    SELECT {typed}\n    FROM {unpacked}"


def unpack_numbered(*columns: str) -> str:
    """Return a FROM item ``n`` with columns of texts and their ``place``, counted from 1."""
    return f"{_arrays(columns)} WITH ORDINALITY AS n({', '.join(columns)}, place)"


def _arrays(columns: Iterable[str]) -> str:
    """Return a FROM item that has the elements of arrays side by side."""
    arrays = [f"json_array_elements_text(CAST(:{column} AS json))" for column in columns]
    if len(arrays) == 1:
        return arrays[0]
    return f"ROWS FROM (\n      {', '.join(arrays)}\n    )"


def pack(columns: Mapping[str, Sequence[object]]) -> dict[str, str | None]:
    """Return the parameters for `unpack`. All columns have the same length.

    A column without any value is NULL: then it has no rows, which SQL fills up with NULL. So the
    parts of a row that are seldom there cost nothing. At least one column has a value in each row.
    """
    return {name: _packed(values) for name, values in columns.items()}


def _packed(values: Sequence[object]) -> str | None:
    if values.count(None) == len(values) > 0:
        return None
    return orjson.dumps(values).decode()
