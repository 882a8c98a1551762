"""``crm users``: manage the people who sign in to the dashboard."""

import re
import sys
from typing import Annotated, Any, NoReturn

import typer
from sqlalchemy.ext.asyncio import AsyncConnection

from service.cli.database import actor, in_database
from service.cli.keys import FIRST_CREDENTIAL, NOBODY_LEFT
from service.cli.output import AsJson, camel, fail, moment, note, print_json, print_table, say
from service.core.scopes import Role
from service.db.accounts import users
from service.db.accounts.access import access
from service.db.accounts.passwords import PasswordError
from service.db.accounts.users import User

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Manage who signs in to the dashboard.",
)
_EMAIL = re.compile(r"[^\s@]+@[^\s@]+")


def _email(value: str) -> str:
    if not _EMAIL.fullmatch(value):
        raise typer.BadParameter("this is not an e-mail address")
    return value


Email = Annotated[
    str, typer.Argument(metavar="EMAIL", callback=_email, help="The user's e-mail address.")
]
RoleOption = Annotated[
    Role,
    typer.Option(help="viewer: read. editor: also change and export. admin: everything."),
]


@app.command()
def add(email: Email, role: RoleOption) -> None:
    """Add a user.

    In a terminal this asks for the password. Otherwise the password is one line of standard input.
    It has at least 12 characters and is not easy to guess.
    """
    if in_database(_add, email, _password(), role):
        note(FIRST_CREDENTIAL)
    say(f"added, as {role}")


@app.command("list")
def list_users(*, as_json: Annotated[bool, AsJson] = False) -> None:
    """List all users."""
    everyone = in_database(users.list_users)
    if as_json:
        print_json([_document(user) for user in everyone])
    elif everyone:
        columns = ("Id", "E-mail", "Role", "Added", "Last sign-in", "State")
        print_table(columns, [_row(user) for user in everyone])
    else:
        say("No users. `crm users add` adds one.")


@app.command()
def set_role(email: Email, role: RoleOption) -> None:
    """Change what a user may do."""
    if not in_database(_set_role, email, role):
        _no_such_user()
    say(f"{email} is now {role}")


@app.command()
def set_password(email: Email) -> None:
    """Set a new password.

    This also signs the user out, and enables them if they were disabled.
    """
    if not in_database(_set_password, email, _password()):
        _no_such_user()
    say(f"password of {email} set")


@app.command()
def disable(email: Email) -> None:
    """Sign a user out and refuse further sign-ins.

    A new password enables them again. The audit keeps what they did.
    """
    anybody_left = in_database(_disable, email)
    say(f"disabled {email}")
    if not anybody_left:
        note(NOBODY_LEFT)


async def _add(connection: AsyncConnection, email: str, password: str, role: Role) -> bool:
    """Add a user. Return whether this is the first credential."""
    first = not (await access(connection)).required
    try:
        await users.add_user(connection, email, password, role, actor=actor())
    except users.UserExistsError:
        fail("that user exists already. See `crm users set-role` and `crm users set-password`.")
    except PasswordError as error:
        fail(f"{error}.")
    return first


async def _set_role(connection: AsyncConnection, email: str, role: Role) -> bool:
    return await users.set_role(connection, email, role, actor=actor())


async def _set_password(connection: AsyncConnection, email: str, password: str) -> bool:
    try:
        return await users.set_password(connection, email, password, actor=actor())
    except PasswordError as error:
        fail(f"{error}.")


async def _disable(connection: AsyncConnection, email: str) -> bool:
    """Disable a user. Return whether anybody can still get in."""
    if not await users.disable_user(connection, email, actor=actor()):
        _no_such_user()
    return (await access(connection)).possible


def _no_such_user() -> NoReturn:
    fail("there is no such user. `crm users list` shows all.")


def _password() -> str:
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\r\n")


def _state(user: User) -> str:
    return "disabled" if user.disabled_at else "enabled"


def _row(user: User) -> tuple[object, ...]:
    return (
        user.id,
        user.email,
        user.role,
        moment(user.date_created),
        moment(user.last_sign_in_at),
        _state(user),
    )


def _document(user: User) -> dict[str, Any]:
    return camel(user._asdict()) | {"id": str(user.id), "state": _state(user)}
