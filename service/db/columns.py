"""Rows as columns: one JSON array per column, unpacked side by side in SQL.

Half the time of typed array parameters, on both ends: a driver inspects and encodes each element
by itself (a timestamp takes it 1.6 µs), where JSON is written by one call and read by C code.
"""

from collections.abc import Mapping, Sequence

import orjson


def unpack(columns: Mapping[str, str]) -> str:
    """Write a SELECT of typed rows from parameters of the columns' names."""
    typed = ", ".join(f"CAST(u.{name} AS {kind}) AS {name}" for name, kind in columns.items())
    arrays = ", ".join(f"json_array_elements_text(CAST(:{name} AS json))" for name in columns)
    return f"SELECT {typed} FROM ROWS FROM ({arrays}) AS u({', '.join(columns)})"


def pack(columns: Mapping[str, Sequence[object]]) -> dict[str, str]:
    """Write the parameters for it; columns have the same length."""
    return {name: orjson.dumps(values).decode() for name, values in columns.items()}
