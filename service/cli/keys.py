"""``crm keys``: API keys, made, listed and revoked."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy.ext.asyncio import AsyncConnection

from service.cli.database import fail, in_database, whoever
from service.core.scopes import Scope
from service.db.accounts import api_keys

app = typer.Typer(no_args_is_help=True, help="API keys: who may call the service.")
_console = Console(highlight=False, soft_wrap=True)


def _moment(value: str) -> datetime:
    """Read ``90d``, ``12h`` or ISO 8601."""
    now = datetime.now(UTC)
    try:
        if match := re.fullmatch(r"(\d{1,5})([dh])", value):
            unit = timedelta(days=1) if match[2] == "d" else timedelta(hours=1)
            moment = now + int(match[1]) * unit
        else:
            moment = datetime.fromisoformat(value)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter("write 90d, 12h, 2027-01-31 or 2027-01-31T12:00:00Z") from None
    if moment <= now:
        raise typer.BadParameter("that is over already")
    return moment


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What it is for: it stands in the audit.")],
    scope: Annotated[list[Scope], typer.Option(help="What it allows; may be given repeatedly.")],
    expires: Annotated[
        datetime | None,
        typer.Option(parser=_moment, metavar="WHEN", help="90d, 12h or ISO 8601. Else: never."),
    ] = None,
) -> None:
    """Make a key and print it, this once; only a hash of it is kept."""

    async def work(connection: AsyncConnection) -> str:
        if not await api_keys.configured(connection):
            typer.echo("This is the first credential: without one, nobody gets in now.", err=True)
        key = await api_keys.create_key(
            connection, name, scope, expires_at=expires, actor=whoever()
        )
        return key.reveal()

    typer.echo(asyncio.run(in_database(work)))
    typer.echo("It cannot be shown again. Send it as `Authorization: Bearer …`.", err=True)


@app.command("list")
def show() -> None:
    """List the keys, without their secrets."""
    table = Table("Id", "Name", "Scopes", "Created", "Expires", "Last used", "State")
    for key in asyncio.run(in_database(api_keys.list_keys)):
        state = "valid" if key.valid else "revoked" if key.revoked_at else "expired"
        moments = map(_shown, (key.date_created, key.expires_at, key.last_used_at))
        table.add_row(key.id, key.name, " ".join(key.scopes), *moments, state)
    _console.print(table)


@app.command()
def revoke(key_id: Annotated[str, typer.Argument(metavar="ID", help="See `list`.")]) -> None:
    """Make a key useless, for ever, within five seconds."""

    async def work(connection: AsyncConnection) -> bool:
        if not await api_keys.revoke_key(connection, key_id, actor=whoever()):
            fail(f"there is no key {key_id} that is not revoked; `crm keys list` shows all.")
        return await api_keys.configured(connection)

    others = asyncio.run(in_database(work))
    typer.echo(f"revoked {key_id}")
    if not others:
        typer.echo(
            "No credential is left: whoever is on the service's machine may do everything.",
            err=True,
        )


def _shown(moment: datetime | None) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%MZ") if moment else "never"
