"""What the commands that only need the database share."""

import getpass
import os
from collections.abc import Awaitable, Callable
from typing import NoReturn, TypeVar

import typer
from sqlalchemy.ext.asyncio import AsyncConnection

from service.config import Config
from service.db.engine import DATABASE_AWAY, create_engine, sqlstate
from service.local.state import with_local_stack

T = TypeVar("T")


def fail(sentence: str) -> NoReturn:
    """End the command with a sentence and exit status 1."""
    typer.echo(f"crm: {sentence}", err=True)
    raise typer.Exit(1)


async def in_database(work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    """Run ``work`` in a transaction; a database that does not answer is a sentence."""
    config = with_local_stack(Config.load())
    engine = create_engine(config.database_url or "", application="crm", pool_size=1)
    try:
        async with engine.begin() as connection:
            return await work(connection)
    except DATABASE_AWAY as error:
        if sqlstate(error) == "42P01":
            fail("the database has no such table yet; run `crm migrate`.")
        fail(f"the database did not do it: {type(error).__name__} {sqlstate(error)}".rstrip())
    finally:
        await engine.dispose()


def whoever() -> str:
    """Name, for the audit, who runs this command on this machine."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # a container's user needs no name
        return f"cli:{os.getuid()}"
