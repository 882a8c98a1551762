"""Write the report of refused lines, a CSV file beside the original."""

import csv
import os
from pathlib import Path
from typing import Any, TextIO

from service.transfer.lines import LineFault


class RefusedLines:
    """The report. Only its owner can read it: it may quote what strangers wrote."""

    def __init__(self, path: Path) -> None:
        """Remove the report of the last run. A new one is created with the first refused line."""
        path.unlink(missing_ok=True)
        self._path = path
        self._file: TextIO | None = None
        self._writer: Any = None

    def add(self, number: int, fault: LineFault) -> None:
        """Write a refused line."""
        if self._file is None:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            self._file = os.fdopen(descriptor, "w", encoding="utf-8-sig", newline="")
            self._writer = csv.writer(self._file)
            self._writer.writerow(("Line", "Column", "Problem", "What to do"))
        remedy = ": ".join(filter(None, (fault.remedy, fault.mapping)))
        self._writer.writerow((number, fault.column, fault.problem, remedy))

    def close(self) -> None:
        """Close the report, if there is one."""
        if self._file:
            self._file.close()
