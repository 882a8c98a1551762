"""Define the command ``crm``: its commands, and the sentence with which an error ends it.

A command's modules are imported when it is called: importing those of all commands takes longer
than most commands.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import Coroutine
from importlib.metadata import version
from typing import Annotated, Any

import typer

from service import logs, tracing
from service.cli.database import connected, problem
from service.cli.lazy import importing, lazy_group
from service.cli.output import ShowSecrets, note, say
from service.config import Config, ConfigError
from service.db.engine import DATABASE_AWAY
from service.db.installation import check_currency
from service.local import LocalError
from service.local.state import with_local_stack
from service.streams import redis_client

_COMMANDS = {
    "status": "status:status",
    "verify": "verify:verify",
    "rebuild": "rebuild:rebuild",
    "recover": "recover:recover",
    "replay": "replay:replay",
    "dead-letters": "dead_letters:app",
    "losses": "losses:losses",
    "foreign": "foreign:foreign",
    "import": "files:import_command",
    "export": "files:export_command",
    "publish": "publish:publish_command",
    "insight": "insight:app",
    "keys": "keys:app",
    "hooks": "hooks:app",
    "users": "users:app",
    "capacity": "capacity:capacity",
}
"""The module and the name in it of each command that has a module of its own."""

app = typer.Typer(
    cls=lazy_group(_COMMANDS),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its boxes cut words, and stay boxes in a pipe
)


def main() -> None:
    """Run the command line; an error that a user can cause ends it with a sentence."""
    sys.excepthook = logs.print_fatal_masked
    try:
        app()
    except ConfigError as error:
        note(f"crm: {error}")
        sys.exit(2)
    except (*DATABASE_AWAY, *redis_client.REDIS_ERRORS) as error:
        note(f"crm: {problem(error)}")
        sys.exit(1)
    except LocalError as error:
        note(f"crm: {error}")
        sys.exit(1)


def _print_version(asked: bool) -> None:  # noqa: FBT001  as Typer calls it
    if asked:
        say(version("recovery-essentials-crm"))
        raise typer.Exit


@app.callback()
def crm(
    *,
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, help="Print the release and exit.")
    ] = False,
) -> None:
    """Keep customers and their segments up to date from a shop's order events.

    Settings are environment variables named CRM_…, such as CRM_DATABASE_URL. Without URLs,
    commands use the servers of the `crm up` that runs in this folder.
    """


@app.command()
def up(*, show_secrets: Annotated[bool, ShowSecrets] = False) -> None:
    """Start everything on this machine, until Ctrl-C.

    That is a worker and the web process, and PostgreSQL and Valkey unless CRM_DATABASE_URL and
    CRM_REDIS_URL name others. Data and logs are in the folder CRM_DATA_DIR (.crm if not set).
    """
    from service.local.up import up as run  # noqa: PLC0415

    asyncio.run(run(Config.load(), report=say, show_secrets=show_secrets))


@app.command()
def demo(
    *,
    pace: Annotated[
        float,
        typer.Option(
            min=0.01,
            help="How many times as fast as in the past live orders come. 500: one a second.",
        ),
    ] = 1,
) -> None:
    """Start everything, and feed it a real shop's orders.

    The orders of the past come first, then made-up live ones, until Ctrl-C.
    """
    from service.cli.demo import run_demo  # noqa: PLC0415

    asyncio.run(run_demo(Config.load(), pace))


@app.command()
def worker() -> None:
    """Run a worker, which applies order events.

    It also publishes segment changes. Start as many as you like, on as many machines as you like.
    """
    with importing():
        from consumers.worker import run_worker  # noqa: PLC0415

    config = with_local_stack(Config.load())
    logs.set_up(config.log_level, config.log_format)
    tracing.set_up("crm-worker")
    _run_fast(run_worker(config))


@app.command()
def web() -> None:
    """Run a web process, for the HTTP API and the dashboard.

    Start as many as you like, on as many machines as you like.
    """
    with importing():
        import uvicorn  # noqa: PLC0415

        from service.http.app import create_app, prepare  # noqa: PLC0415
        from service.http.auth.local_mode import refuse_open_door  # noqa: PLC0415
        from service.http.middleware import forwarded  # noqa: PLC0415
        from service.http.server import connection  # noqa: PLC0415

    config = with_local_stack(Config.load())
    logs.set_up(config.log_level, config.log_format)
    tracing.set_up("crm-web")
    asyncio.run(refuse_open_door(config))
    asyncio.run(_refuse_other_currency(config))
    # Live streams never end on their own, and the server waits for every open connection.
    application = create_app(config, stopping=lambda: server.should_exit)
    prepare(application)
    trusted = os.environ.get(forwarded.VARIABLE, forwarded.DEFAULT)
    server = uvicorn.Server(
        uvicorn.Config(
            forwarded.Forwarded(application, trusted),
            proxy_headers=False,
            host=config.http_host,
            port=config.http_port,
            log_config=None,
            access_log=False,
            server_header=False,
            http=connection(config.request_seconds),
            timeout_graceful_shutdown=10,
        )
    )
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C, raised again once it has stopped
        server.run()
    sys.exit(0 if server.started else 3)


@app.command()
def migrate() -> None:
    """Bring the database's schema up to this release. Running it again changes nothing."""
    from service.db.migrate import upgrade  # noqa: PLC0415

    config = with_local_stack(Config.load())
    revision = asyncio.run(upgrade(config.database_url or ""))
    say(f"schema at {revision}")


async def _refuse_other_currency(config: Config) -> None:
    """Raise OtherCurrencyError. If the database does not answer, `/readyz` looks again."""
    async with connected(config, "crm web") as engine:
        with contextlib.suppress(*DATABASE_AWAY):
            async with engine.connect() as connection:
                await check_currency(connection, config.store_currency)


def _run_fast(work: Coroutine[Any, Any, object]) -> None:
    """Run on uvloop if it is installed. There is none for Windows."""
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        asyncio.run(work)
    else:
        uvloop.run(work)
