"""``crm losses``: list and acknowledge what Redis lost before it was applied."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from sqlalchemy.ext.asyncio import AsyncConnection

from service.cli.database import actor, in_database
from service.cli.output import AsJson, camel, fail, moment, print_json, print_table, say
from service.core.loss_arithmetic import LossKind
from service.db.operations.losses import RecordedLoss, acknowledge, recorded_losses

_ENTRIES = {
    LossKind.REMOVED: "at least {}",
    LossKind.ROLLED_BACK: "{}, and any that came after the last check",
}


def losses(
    *,
    acknowledged: Annotated[
        list[int] | None,
        typer.Option(
            "--acknowledge",
            metavar="ID",
            help="Acknowledge one, and more if given again. Then the alert ends, and `crm verify`"
            " no longer reports them.",
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="List acknowledged losses too.")
    ] = False,
    as_json: Annotated[bool, AsJson] = False,
) -> None:
    """List entries that Redis lost before they were applied.

    A loss is a range of stream ids. If the stream still has the entries, `crm replay --since TIME`
    reads them again. Otherwise have order management publish those orders again, or `crm import`
    them. Then acknowledge the loss.
    """
    found = in_database(_list, acknowledged or [], everything)
    if as_json:
        print_json([_document(incident) for incident in found])
    elif found:
        columns = ("Id", "Stream", "Kind", "After id", "Up to id", "Since", "Last noticed")
        print_table((*columns, "State", "Entries"), [_row(incident) for incident in found])
    else:
        say("No losses." if everything else "No open losses.")


async def _list(
    connection: AsyncConnection,
    acknowledged: Sequence[int],
    everything: bool,  # noqa: FBT001  passed on by position
) -> Sequence[RecordedLoss]:
    for number in acknowledged:
        if not await acknowledge(connection, number, actor()):
            fail(f"there is no open loss {number}. `crm losses` lists those that are.")
    return await recorded_losses(connection, open_only=not everything)


def _row(incident: RecordedLoss) -> tuple[object, ...]:
    entries = incident.entries
    return (
        incident.id,
        incident.stream,
        incident.kind.replace("_", " "),
        incident.after_id,
        incident.until_id,
        moment(incident.since),
        moment(incident.last_noticed_at),
        f"acknowledged by {incident.acknowledged_by}" if incident.acknowledged_by else "open",
        "unknown" if entries is None else _ENTRIES[incident.kind].format(entries),
    )


def _document(incident: RecordedLoss) -> dict[str, Any]:
    return camel(incident._asdict())
