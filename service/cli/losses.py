"""``crm losses``: what Redis lost before it was applied, and taking note of it."""

import asyncio
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

import typer
from sqlalchemy.ext.asyncio import AsyncConnection

from service.cli.database import fail, in_database, whoever
from service.core.json_values import timestamp
from service.core.loss_arithmetic import LossKind
from service.db.operations.losses import RecordedLoss, acknowledge, recorded_losses

_HOW = {
    LossKind.REMOVED: "at least {}",
    LossKind.ROLLED_BACK: "{}, and what came after the last look",
}


def losses(
    *,
    noted: Annotated[
        int | None,
        typer.Option(
            "--acknowledge", metavar="ID", help="Take note of one: `crm verify` holds again."
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Acknowledged ones as well.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array.")] = False,
) -> None:
    """List entries that Redis lost before they were applied, by the range of their ids."""

    async def work(connection: AsyncConnection) -> Sequence[RecordedLoss]:
        if noted is not None and not await acknowledge(connection, noted, whoever()):
            fail(f"there is no open loss {noted}.")
        return await recorded_losses(connection, open_only=not every)

    found = asyncio.run(in_database(work))
    if as_json:
        typer.echo(json.dumps([_document(incident) for incident in found], indent=2))
    elif not found:
        typer.echo("No losses." if every else "No open losses.")
    else:
        for incident in found:
            typer.echo(_sentence(incident))


def _sentence(it: RecordedLoss) -> str:
    entries = "unknown" if it.entries is None else _HOW[it.kind].format(it.entries)
    noted = f"; acknowledged by {it.acknowledged_by}" if it.acknowledged_by else ""
    return (
        f"{it.id}  {it.stream}  {it.kind.replace('_', ' ')}  entries: {entries}; ids after "
        f"{it.after_id} up to {it.until_id}; between {timestamp(it.since)} and "
        f"{timestamp(it.last_noticed_at)}{noted}"
    )


def _document(incident: RecordedLoss) -> dict[str, Any]:
    def written(value: object) -> object:
        return timestamp(value) if isinstance(value, datetime) else value

    names = {name: name.split("_") for name in RecordedLoss._fields}
    return {
        first + "".join(word.capitalize() for word in rest): written(getattr(incident, name))
        for name, (first, *rest) in names.items()
    }
