"""``crm keys``: create, list and revoke API keys."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from sqlalchemy.ext.asyncio import AsyncConnection

from service.cli.database import actor, in_database
from service.cli.output import AsJson, camel, fail, moment, note, print_json, print_table, say
from service.core.scopes import Scope
from service.core.tokens import ApiKey
from service.db.accounts import api_keys
from service.db.accounts.access import access
from service.db.accounts.api_keys import ListedKey

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Create, list and revoke API keys, for programs.",
)


FIRST_CREDENTIAL = "This is the first credential. From now on, everybody needs one, for good."
NOBODY_LEFT = (
    "Nobody can sign in or use the API any more. `crm users add` and `crm keys create` let somebody"
    " in again."
)


def _expiry(value: str) -> datetime:
    """Read ``90d``, ``12h`` or a date in ISO 8601."""
    now = datetime.now(UTC)
    try:
        if match := re.fullmatch(r"(\d{1,5})([dh])", value):
            unit = timedelta(days=1) if match[2] == "d" else timedelta(hours=1)
            at = now + int(match[1]) * unit
        else:
            at = datetime.fromisoformat(value)
            at = at if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter("write 90d, 12h, 2027-01-31 or 2027-01-31T12:00:00Z") from None
    if at <= now:
        raise typer.BadParameter("this is in the past")
    return at


@app.command()
def create(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="The program that uses the key. The audit shows this name."
        ),
    ],
    *,
    scope: Annotated[
        list[Scope], typer.Option(help="What the key allows. Repeat the option for several.")
    ],
    expires: Annotated[
        datetime | None,
        typer.Option(
            parser=_expiry,
            metavar="WHEN",
            help="When it ends: 90d, 12h or a date in ISO 8601. Without it: never.",
        ),
    ] = None,
) -> None:
    """Create a key and print it.

    This is the only time it is shown: the service keeps a hash of it.
    """
    first, key = in_database(_create, name, scope, expires)
    if first:
        note(FIRST_CREDENTIAL)
    typer.echo(key.reveal())
    note("It cannot be shown again. Send it as `Authorization: Bearer …`.")


@app.command("list")
def list_keys(*, as_json: Annotated[bool, AsJson] = False) -> None:
    """List all keys, without their secrets."""
    keys = in_database(api_keys.list_keys)
    if as_json:
        print_json([_document(key) for key in keys])
    elif keys:
        columns = ("Id", "Name", "Scopes", "Created", "Expires", "Last used", "State")
        print_table(columns, [_row(key) for key in keys])
    else:
        say("No API keys. `crm keys create` makes one.")


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The id that `list` shows.")],
) -> None:
    """Revoke a key for good.

    Within five seconds, every web process refuses it.
    """
    anybody_left = in_database(_revoke, key_id)
    say(f"revoked {key_id}")
    if not anybody_left:
        note(NOBODY_LEFT)


async def _create(
    connection: AsyncConnection, name: str, scopes: list[Scope], expires: datetime | None
) -> tuple[bool, ApiKey]:
    first = not (await access(connection)).required
    key = await api_keys.create_key(connection, name, scopes, expires_at=expires, actor=actor())
    return first, key


async def _revoke(connection: AsyncConnection, key_id: str) -> bool:
    if not await api_keys.revoke_key(connection, key_id, actor=actor()):
        fail(f"there is no key {key_id} to revoke. `crm keys list` shows all.")
    return (await access(connection)).possible


def _state(key: ListedKey) -> str:
    return "valid" if key.valid else "revoked" if key.revoked_at else "expired"


def _row(key: ListedKey) -> tuple[str, ...]:
    return (
        key.id,
        key.name,
        " ".join(key.scopes),
        moment(key.date_created),
        moment(key.expires_at),
        moment(key.last_used_at),
        _state(key),
    )


def _document(key: ListedKey) -> dict[str, Any]:
    return camel({name: value for name, value in key._asdict().items() if name != "valid"}) | {
        "state": _state(key)
    }
