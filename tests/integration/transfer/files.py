"""Write files, import them and export to them, for the tests."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from service.transfer.export import COLUMNS, export
from service.transfer.import_outcome import ImportOutcome
from service.transfer.importer import ImportRequest, import_file
from service.transfer.lines import FileKind
from tests.conftest import Service

EVERYTHING = """
SELECT id, email, name, phone, address, notes, date_created, total_orders, total_spent,
       first_order_date, last_order_date, segment,
       ARRAY(SELECT o.id FROM orders o WHERE o.customer_id = c.id ORDER BY o.id) AS orders
FROM customers c ORDER BY id
"""
ORDERS = """
SELECT id, version, updated_at, event_id, status, payment_status, total, refunded, date_created,
       customer_id, named_version, named_at, named_event_id, erased
FROM orders ORDER BY id
"""


async def load(
    service: Service, path: Path, *, apply: bool = True, **options: Any
) -> ImportOutcome:
    """Import a file as ``crm import --apply`` does."""
    (outcome,) = await import_file(service.config, ImportRequest(path, apply=apply, **options))
    return outcome


async def save(service: Service, path: Path) -> Path:
    """Export to a file as ``crm export`` does."""
    kind = FileKind.ORDERS if path.suffix == ".ndjson" else FileKind.CUSTOMERS
    with path.open("wb") as file:
        await export(service.engine, kind, service.config.store_currency, file)
    return path


def customers_csv(path: Path, *rows: dict[str, Any], columns: Sequence[str] = COLUMNS) -> Path:
    """Write a customers file; a cell that a row does not have is empty."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return path


def lines_of(path: Path, *documents: Any) -> Path:
    """Write documents as lines of JSON; a string is written as it is."""
    texts = [one if isinstance(one, str) else json.dumps(one) for one in documents]
    path.write_text("".join(f"{one}\n" for one in texts), encoding="utf-8")
    return path


def refusals(path: Path) -> list[tuple[str, str, str]]:
    """Return line, column and problem of each refused line of a file."""
    report = path.with_name(f"{path.name}.refused.csv")
    if not report.exists():
        return []
    with report.open(encoding="utf-8-sig", newline="") as file:
        return [(row["Line"], row["Column"], row["Problem"]) for row in csv.DictReader(file)]
