"""``crm dead-letters``: list, show, retry and discard the entries that were refused."""

import asyncio
import base64
from datetime import datetime
from typing import Annotated, Any, NoReturn

import typer
from sqlalchemy.ext.asyncio import AsyncConnection

from service.cli.database import actor, connected, in_database, problem
from service.cli.output import (
    AsJson,
    camel,
    fail,
    moment,
    note,
    print_json,
    print_table,
    say,
)
from service.config import Config
from service.core.numbers import number_of
from service.core.order_event import Reason
from service.core.printable import printable
from service.db.engine import DATABASE_AWAY
from service.db.installation import check_currency
from service.db.operations import dead_letter_removal, dead_letter_replay, dead_letters
from service.db.operations.dead_letter_replay import ReplayResult
from service.db.operations.dead_letters import (
    Letter,
    NoSuchLetterError,
    Selection,
    StoredField,
)
from service.local.state import with_local_stack

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Look at refused entries, and retry or discard them.",
)

Id = Annotated[int, typer.Argument(metavar="ID", min=1, help="The id that `list` shows.")]

_SHOWN_REFUSALS = 20


@app.command("list")
def list_letters(
    *,
    reason: Annotated[
        Reason | None, typer.Option(metavar="REASON", help="List only those with this reason.")
    ] = None,
    updates: Annotated[
        bool,
        typer.Option("--updates", help="List only refused updates of orders that are known."),
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="List this many at most.")] = 50,
    as_json: Annotated[bool, AsJson] = False,
) -> None:
    """List dead letters, the newest first.

    A refused update of an order that is known leaves that order in an older state. The column Order
    marks it with "older state".
    """
    selection = Selection(reason and reason.value, refused_update=updates or None)
    letters, total, tallies = in_database(_find, selection, limit)
    if as_json:
        print_json([_document(letter) for letter in letters])
        return
    if letters:
        columns = ("Id", "Partition", "Stream id", "Reason", "Order", "Attempts", "Last seen")
        print_table((*columns, "Error"), [_row(letter) for letter in letters])
    counts = ", ".join(f"{tally.letters:,} {tally.reason}" for tally in tallies)
    shown = f"{len(letters):,} of {number_of(total, 'dead letter', 'dead letters')} shown."
    note(f"{shown} All by reason: {counts}." if counts else "No dead letters.")


@app.command()
def show(
    letter_id: Id,
    *,
    whole: Annotated[
        bool,
        typer.Option(
            "--base64", help="Print every byte that is stored, names and values in base64."
        ),
    ] = False,
) -> None:
    r"""Print one dead letter as JSON, with its content.

    The content may be personal data. Without --base64, only the first MiB is printed, and bytes
    that are not text are written as \xNN. Of an entry that was too large, only its beginning is
    stored; `size` and `stored` say how much.
    """
    letter, fields = in_database(_read, letter_id, whole)
    if whole:
        encoded = [[_base64(field.name), _base64(field.value)] for field in fields]
        print_json(_document(letter) | {"fieldsBase64": encoded})
    else:
        texts = {_text(field.name): _text(field.value) for field in fields}
        print_json(_document(letter) | {"fields": texts})


@app.command()
def replay(
    letter_id: Annotated[
        int | None, typer.Argument(metavar="ID", min=1, help="The id that `list` shows.")
    ] = None,
    *,
    reason: Annotated[
        Reason | None, typer.Option(metavar="REASON", help="Retry all with this reason.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Retry all dead letters.")] = False,
    as_json: Annotated[bool, AsJson] = False,
) -> None:
    """Retry dead letters, after a fix.

    Use it when the publisher's mistake or a wrong setting was fixed. Each one is judged again. What
    is accepted now is applied and leaves the list; the rest stays. Exit status 1 if any was refused
    again. This does not touch the stream: `crm replay` does that.
    """
    if sum((letter_id is not None, reason is not None, everything)) != 1:
        raise typer.BadParameter("give one of: an id, --reason, --all")
    replayed = asyncio.run(_replay(letter_id, reason))
    if letter_id is not None and not replayed.letters:
        _no_such(letter_id)
    if as_json:
        print_json(_outcome(replayed))
    else:
        accepted = ", ".join(f"{count} {outcome}" for outcome, count in replayed.accepted.items())
        say(
            f"{replayed.letters} retried: {accepted or 'none accepted'}; "
            f"{len(replayed.refused)} refused again"
        )
        refusals = sorted(replayed.refused.items())
        for refused_id, refusal in refusals[:_SHOWN_REFUSALS]:
            say(f"  {refused_id}  {refusal.reason}: {printable(refusal.message)}")
        if len(refusals) > _SHOWN_REFUSALS:
            say(f"  and {len(refusals) - _SHOWN_REFUSALS} more: `crm dead-letters list`")
    if replayed.refused:
        raise typer.Exit(1)


@app.command()
def discard(
    letter_id: Annotated[
        int | None, typer.Argument(metavar="ID", min=1, help="The id that `list` shows.")
    ] = None,
    *,
    why: Annotated[str, typer.Option(help="Why, in words. It is kept in the audit.")],
    reason: Annotated[
        str | None,
        typer.Option(metavar="REASON", help="Discard all with this reason, as `list` shows it."),
    ] = None,
    before: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Discard those first seen before this time."),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask before discarding several.")
    ] = False,
) -> None:
    """Delete one dead letter for good, or all of a reason and an age.

    Before it deletes several, it says how many there are, and asks.
    """
    if not why.strip():
        raise typer.BadParameter("must not be empty", param_hint="--why")
    if (letter_id is not None) == (reason is not None or before is not None):
        msg = "give either an id, or --reason and --before, or one of these two"
        raise typer.BadParameter(msg)
    if letter_id is not None:
        in_database(_discard, letter_id, why.strip())
        say(f"discarded {letter_id}")
        return
    selection = Selection(_reason(reason), _time(before))
    letters = in_database(dead_letters.count, selection)
    if not letters:
        say("No dead letter is meant. Nothing was discarded.")
        return
    counted = number_of(letters, "dead letter", "dead letters")
    if not yes and not typer.confirm(f"Discard {counted} for good?"):
        fail("nothing was discarded.")
    discarded = asyncio.run(_discard_all(selection, why.strip()))
    say(f"discarded {number_of(discarded, 'dead letter', 'dead letters')}")


def _reason(code: str | None) -> str | None:
    if code is None or code in set(Reason):
        return code
    msg = (
        f"'{code}' is no reason for which an entry is refused. `crm dead-letters list` shows them. "
        "To say why you discard something, use --why."
    )
    raise typer.BadParameter(msg, param_hint="--reason")


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text.upper())
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        msg = f"{text} is not a time with an offset; write it like 2026-11-22T10:00:00Z"
        raise typer.BadParameter(msg, param_hint="--before")
    return at


async def _find(
    connection: AsyncConnection, selection: Selection, limit: int
) -> tuple[list[Letter], int, list[dead_letters.ReasonTally]]:
    letters, total = await dead_letters.find(connection, selection, limit)
    return letters, total, await dead_letters.summary(connection)


async def _read(
    connection: AsyncConnection,
    letter_id: int,
    whole: bool,  # noqa: FBT001
) -> tuple[Letter, list[StoredField]]:
    shown = dead_letters.WHOLE if whole else dead_letters.SHOWN_BYTES
    try:
        return await dead_letters.read(connection, letter_id, shown)
    except NoSuchLetterError:
        _no_such(letter_id)


async def _replay(letter_id: int | None, reason: Reason | None) -> ReplayResult:
    config = with_local_stack(Config.load())
    async with connected(config, "crm dead-letters") as engine:
        try:
            async with engine.connect() as connection:
                await check_currency(connection, config.store_currency)
            if letter_id is not None:
                return await dead_letter_replay.replay(engine, actor(), [letter_id], config.terms)
            replayed, _ = await dead_letter_replay.replay_all(
                engine, actor(), reason and reason.value, config.terms
            )
        except DATABASE_AWAY as error:
            fail(problem(error))
    return replayed


async def _discard(connection: AsyncConnection, letter_id: int, why: str) -> None:
    try:
        await dead_letter_removal.discard(connection, actor(), letter_id, why)
    except NoSuchLetterError:
        _no_such(letter_id)


async def _discard_all(selection: Selection, why: str) -> int:
    config = with_local_stack(Config.load())
    async with connected(config, "crm dead-letters") as engine:
        try:
            return await dead_letter_removal.discard_all(engine, actor(), selection, why)
        except DATABASE_AWAY as error:
            fail(problem(error))


def _no_such(letter_id: int) -> NoReturn:
    fail(f"there is no dead letter {letter_id}. `crm dead-letters list` shows all.")


def _row(letter: Letter) -> tuple[object, ...]:
    return (
        letter.id,
        "" if letter.partition is None else letter.partition,
        letter.stream_id,
        letter.reason,
        f"{letter.order_id or ''}{' (older state)' if letter.refused_update else ''}",
        letter.attempts,
        moment(letter.last_seen),
        letter.error,
    )


def _document(letter: Letter) -> dict[str, Any]:
    return camel(letter._asdict()) | {"id": str(letter.id)}


def _outcome(replayed: ReplayResult) -> dict[str, Any]:
    return {
        "replayed": replayed.letters,
        "accepted": {outcome.value: count for outcome, count in replayed.accepted.items()},
        "refused": [
            {"id": str(letter_id), "reason": refusal.reason, "error": refusal.message}
            for letter_id, refusal in sorted(replayed.refused.items())
        ],
    }


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _text(value: bytes) -> str:
    r"""Return bytes as text, in which ``\xNN`` stands for a byte that is not text."""
    return value.decode(errors="backslashreplace")
