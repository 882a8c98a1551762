"""``crm foreign``: list and acknowledge what somebody else did to the streams."""

from collections.abc import Sequence
from typing import Annotated

import typer
from sqlalchemy.ext.asyncio import AsyncConnection

from service.cli.database import actor, in_database
from service.cli.output import AsJson, camel, fail, moment, print_json, print_table, say
from service.db.operations.foreign_entries import ForeignRecord, acknowledge, records


def foreign(
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
    everything: Annotated[bool, typer.Option("--all", help="List acknowledged ones too.")] = False,
    as_json: Annotated[bool, AsJson] = False,
) -> None:
    """List what somebody else wrote to the out-streams, or did to a stream's ids.

    `foreign` and `refused` entries were removed. `unknown` ones look like events of this service.
    On segment changes `crm recover` decides; removals were removed. Find out who can write to
    Redis, then acknowledge.
    """
    found = in_database(_list, acknowledged or [], everything)
    if as_json:
        print_json([_document(record) for record in found])
    elif found:
        columns = ("Id", "Stream", "Kind", "Entries", "First id", "Last id", "Last noticed")
        print_table((*columns, "State", "Why"), [_row(record) for record in found])
    else:
        say("Nothing." if everything else "Nothing that is not acknowledged.")


async def _list(
    connection: AsyncConnection,
    acknowledged: Sequence[int],
    everything: bool,  # noqa: FBT001  passed on by position
) -> Sequence[ForeignRecord]:
    for number in acknowledged:
        if not await acknowledge(connection, number, actor()):
            fail(f"there is no open record {number}. `crm foreign` lists those that are.")
    return await records(connection, open_only=not everything)


def _row(record: ForeignRecord) -> tuple[object, ...]:
    return (
        record.id,
        record.stream,
        record.kind,
        record.entries,
        record.first_id,
        record.last_id,
        moment(record.last_noticed_at),
        f"acknowledged by {record.acknowledged_by}" if record.acknowledged_by else "open",
        record.reason,
    )


def _document(record: ForeignRecord) -> dict[str, object]:
    return camel({**record._asdict(), "sample": record.sample.decode(errors="backslashreplace")})
