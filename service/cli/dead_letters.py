"""``crm dead-letters``: what the contract refused: looked at, replayed, discarded."""

import asyncio
import base64
import json
from datetime import UTC, datetime
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy.ext.asyncio import AsyncConnection

from service.cli.database import fail, in_database, whoever
from service.config import Config
from service.core.order_event import Reason
from service.db.engine import DATABASE_AWAY, create_engine
from service.db.operations import dead_letters
from service.db.operations.dead_letters import Letter, NoSuchLetterError, ReplayResult, StoredField
from service.local.state import with_local_stack

app = typer.Typer(no_args_is_help=True, help="Entries that were refused, and what to do about it.")
_console = Console(highlight=False, soft_wrap=True)

Id = Annotated[int, typer.Argument(metavar="ID", min=1, help="See `list`.")]


@app.command("list")
def show_all(
    reason: Annotated[Reason | None, typer.Option(help="Only of this reason.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, at most.")] = 50,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
) -> None:
    """List them, the newest first, and count them by reason."""

    async def work(
        connection: AsyncConnection,
    ) -> tuple[list[Letter], int, list[dead_letters.ReasonTally]]:
        letters, total = await dead_letters.find(connection, reason and reason.value, limit)
        return letters, total, await dead_letters.summary(connection)

    letters, total, tallies = asyncio.run(in_database(work))
    if as_json:
        for letter in letters:
            typer.echo(json.dumps(_document(letter)))
        return
    table = Table("Id", "Partition", "Stream id", "Reason", "Attempts", "Last seen", "Error")
    for letter in letters:
        seen = letter.last_seen.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        partition = "" if letter.partition is None else letter.partition
        row = (letter.id, partition, letter.stream_id, letter.reason, letter.attempts, seen)
        table.add_row(*map(str, row), letter.error)
    _console.print(table)
    counts = ", ".join(f"{tally.letters} {tally.reason}" for tally in tallies)
    typer.echo(f"{len(letters)} of {total} shown. In all: {counts or 'none'}.")


@app.command()
def show(
    letter_id: Id,
    *,
    whole: Annotated[
        bool, typer.Option("--base64", help="Every byte of it, names and values in base64.")
    ] = False,
) -> None:
    """Show one with what it holds, which may be personal, as JSON."""

    async def work(connection: AsyncConnection) -> tuple[Letter, list[StoredField]]:
        try:
            shown = dead_letters.WHOLE if whole else dead_letters.SHOWN_BYTES
            return await dead_letters.read(connection, letter_id, shown)
        except NoSuchLetterError:
            _no_such(letter_id)

    letter, parts = asyncio.run(in_database(work))
    if whole:
        encoded = [
            [base64.b64encode(it).decode() for it in (part.name, part.value)] for part in parts
        ]
        typer.echo(json.dumps(_document(letter) | {"fieldsBase64": encoded}, indent=2))
        return
    # Bytes that are no text are shown as \xNN; a terminal must not act on what others wrote.
    fields = {_printable(part.name): _printable(part.value) for part in parts}
    typer.echo(json.dumps(_document(letter) | {"fields": fields}, indent=2))


@app.command()
def replay(
    letter_id: Annotated[
        int | None, typer.Argument(metavar="[ID]", min=1, help="One; see `list`.")
    ] = None,
    reason: Annotated[Reason | None, typer.Option(help="All of this reason.")] = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="All there are.")] = False,
) -> None:
    """Judge again, and apply what is accepted now. Exit status 1 when any was refused again."""
    if sum((letter_id is not None, reason is not None, everything)) != 1:
        raise typer.BadParameter("give an id, or --reason, or --all")
    replayed = asyncio.run(_replay(letter_id, reason))
    if letter_id is not None and not replayed.letters:
        _no_such(letter_id)
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in replayed.accepted.items())
    typer.echo(
        f"{replayed.letters} replayed: {outcomes or 'none accepted'}; "
        f"{len(replayed.refused)} refused again"
    )
    for refused_id, refusal in sorted(replayed.refused.items())[:20]:
        typer.echo(f"  {refused_id}  {refusal.reason}: {_printable(refusal.message.encode())}")
    if replayed.refused:
        raise typer.Exit(1)


@app.command()
def discard(
    letter_id: Id,
    reason: Annotated[str, typer.Option(help="Why, in words; stays in the audit.")],
) -> None:
    """Throw one away for good."""
    if not reason.strip():
        raise typer.BadParameter("say why", param_hint="--reason")

    async def work(connection: AsyncConnection) -> None:
        try:
            await dead_letters.discard(connection, whoever(), letter_id, reason.strip())
        except NoSuchLetterError:
            _no_such(letter_id)

    asyncio.run(in_database(work))
    typer.echo(f"discarded {letter_id}")


async def _replay(letter_id: int | None, reason: Reason | None) -> ReplayResult:
    config = with_local_stack(Config.load())
    engine = create_engine(config.database_url or "", application="crm dead-letters", pool_size=1)
    try:
        if letter_id is not None:
            return await dead_letters.replay(engine, whoever(), [letter_id], config.terms)
        replayed, _ = await dead_letters.replay_all(
            engine, whoever(), reason and reason.value, config.terms
        )
    except DATABASE_AWAY as error:
        fail(f"the database did not do it: {type(error).__name__}")
    finally:
        await engine.dispose()
    return replayed


def _no_such(letter_id: int) -> NoReturn:
    fail(f"there is no dead letter {letter_id}; `crm dead-letters list` shows what there is.")


def _document(letter: Letter) -> dict[str, object]:
    return {
        name: value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value
        for name, value in letter._asdict().items()
    }


def _printable(value: bytes) -> str:
    text = value.decode(errors="backslashreplace")
    return "".join(it if it.isprintable() or it == "\n" else ascii(it)[1:-1] for it in text)
