"""``crm users``: the people who sign in to the dashboard."""

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy.ext.asyncio import AsyncConnection

from service.cli.database import fail, in_database, whoever
from service.core.scopes import Role
from service.db.accounts import users
from service.db.accounts.passwords import PasswordError

app = typer.Typer(no_args_is_help=True, help="Users: who may sign in to the dashboard.")
_console = Console(highlight=False, soft_wrap=True)
_EMAIL = re.compile(r"[^\s@]+@[^\s@]+")


def _email(value: str) -> str:
    if not _EMAIL.fullmatch(value):
        raise typer.BadParameter("this is no e-mail address")
    return value


Email = Annotated[str, typer.Argument(metavar="EMAIL", callback=_email)]
RoleOption = Annotated[Role, typer.Option(help="viewer reads, editor changes, admin does all.")]


@app.command()
def add(email: Email, role: RoleOption) -> None:
    """Add a user; the password is asked for, or read from standard input."""
    password = _password()

    async def work(connection: AsyncConnection) -> None:
        try:
            await users.add_user(connection, email, password, role, actor=whoever())
        except users.UserExistsError:
            fail("that user exists already; see `set-role` and `set-password`.")
        except PasswordError as error:
            fail(f"{error}.")

    asyncio.run(in_database(work))
    typer.echo(f"added, as {role}")


@app.command("list")
def show() -> None:
    """List the users."""
    table = Table("Id", "E-mail", "Role", "Last sign-in", "State")
    for user in asyncio.run(in_database(users.list_users)):
        seen = user.last_sign_in_at
        shown = seen.strftime("%Y-%m-%d %H:%MZ") if seen else "never"
        state = "disabled" if user.disabled_at else "enabled"
        table.add_row(str(user.id), user.email, user.role, shown, state)
    _console.print(table)


@app.command()
def set_role(email: Email, role: RoleOption) -> None:
    """Change what a user may do."""
    _change(lambda connection: users.set_role(connection, email, role, actor=whoever()))


@app.command()
def set_password(email: Email) -> None:
    """Give a user another password, and enable them again if they were disabled."""
    password = _password()

    async def work(connection: AsyncConnection) -> bool:
        try:
            return await users.set_password(connection, email, password, actor=whoever())
        except PasswordError as error:
            fail(f"{error}.")

    _change(work)


@app.command()
def disable(email: Email) -> None:
    """Let a user sign in no more; what they did stays in the audit."""
    _change(lambda connection: users.disable_user(connection, email, actor=whoever()))


def _change(work: Callable[[AsyncConnection], Awaitable[bool]]) -> None:
    if not asyncio.run(in_database(work)):
        fail("there is no such user; `crm users list` shows all.")
    typer.echo("done")


def _password() -> str:
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\r\n")
