"""Write measurements into the docs, so that no figure is copied by hand."""

import os
import platform
import re
from datetime import UTC, datetime
from pathlib import Path

import psutil
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.paths import ROOT

PAGE = ROOT / "docs/performance.md"


async def machine(engine: AsyncEngine) -> str:
    """Return a sentence about this machine and its servers, and the day."""
    async with engine.connect() as connection:
        version = (await connection.execute(text("SHOW server_version"))).scalar_one()
    cores = psutil.cpu_count(logical=False) or psutil.cpu_count()
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"Measured on {datetime.now(UTC).date()} on {os.cpu_count()} processors ({cores}"
        f" {'core' if cores == 1 else 'cores'}, {_model()}) with {memory:.0f} GiB,"
        f" PostgreSQL {str(version).split()[0]} and Python {platform.python_version()}, all on"
        " this one machine."
    )


def write(name: str, measured: str, page: Path = PAGE) -> None:
    """Replace the part of a page between ``<!-- name: … -->`` and ``<!-- end of name -->``."""
    begin, end = f"<!-- {name}: written by the command above -->", f"<!-- end of {name} -->"
    before = page.read_text()
    part = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not part.search(before):
        msg = f"{page.name} has no part {name}"
        raise ValueError(msg)
    page.write_text(part.sub(lambda _: f"{begin}\n{measured.strip()}\n{end}", before))


def _model() -> str:
    found = re.search(r"model name\s*: (.+)", _read("/proc/cpuinfo"))
    return found[1].strip() if found else platform.machine()


def _read(path: str) -> str:
    return Path(path).read_text() if Path(path).exists() else ""
