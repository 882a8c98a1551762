"""The data files packaged beside this module: tables with a head, and ``#`` before remarks."""

import csv
from importlib.resources import files


def rows(name: str) -> list[list[str]]:
    """Return the rows of ``name``.csv, without its head."""
    text = files("service.demo").joinpath(f"{name}.csv").read_text("utf-8")
    return list(csv.reader(line for line in text.splitlines() if not line.startswith("#")))[1:]
