"""Read the data files beside this module: CSV with a header, and comments after ``#``."""

import csv
from importlib.resources import files


def rows(name: str) -> list[list[str]]:
    """Return the rows of ``name``.csv, without the header."""
    text = files("service.demo").joinpath(f"{name}.csv").read_text("utf-8")
    return list(csv.reader(line for line in text.splitlines() if not line.startswith("#")))[1:]
