"""``crm export``: customers.csv for people and spreadsheets, orders.ndjson for another CRM."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from service.config import Config
from service.db.customers.filters import Filter
from service.db.engine import create_engine
from service.transfer.export import BOM, ExportKind, copy_customers, copy_orders

STDOUT = Path("-")


async def run_export(config: Config, path: Path, what: ExportKind) -> int:
    """Write the file, whole or not at all; give the number of rows."""
    engine = create_engine(config.database_url or "", application="crm export", pool_size=1)
    try:
        with _output(path) as file:

            async def sink(piece: bytes) -> None:
                file.write(piece)

            if what is ExportKind.ORDERS:
                return await copy_orders(engine, config.store_currency, sink)
            file.write(BOM)
            return await copy_customers(engine, Filter(), sink)
    finally:
        await engine.dispose()


@contextmanager
def _output(path: Path) -> Iterator[BinaryIO]:
    """Open standard output, or a file that only its owner reads and that appears when it is whole.

    A device, such as /dev/null, is written to as it is.
    """
    if path == STDOUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
        return
    unfinished = path.with_name(f".{path.name}.unfinished")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
