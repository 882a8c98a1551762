"""Commands: each loads the configuration, calls one function, and turns errors into sentences."""

import asyncio
import contextlib
import json
import sys
from collections.abc import Coroutine
from importlib.metadata import version
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console

from service import logs, tracing
from service.cli import dead_letters, files, keys, users
from service.cli.capacity import capacity
from service.cli.losses import losses
from service.cli.rebuild import rebuild
from service.cli.replay import replay
from service.config import Config, ConfigError
from service.db.engine import DATABASE_AWAY, sqlstate
from service.local.state import with_local_stack
from service.streams import redis_client

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(keys.app, name="keys")
app.add_typer(users.app, name="users")
app.command("export")(files.export_file)
app.command("import")(files.import_file)
app.command()(capacity)
app.command()(losses)
app.command()(rebuild)
app.command()(replay)
console = Console(highlight=False, soft_wrap=True)
T = TypeVar("T")


def main() -> None:
    """Run the command line; configuration errors are one sentence and exit status 2."""
    try:
        app()
    except ConfigError as error:
        sys.stderr.write(f"crm: {error}\n")
        sys.exit(2)
    except (*DATABASE_AWAY, *redis_client.REDIS_ERRORS) as error:
        if sqlstate(error) in {"42P01", "42703"}:  # no such table, no such column
            sys.stderr.write("crm: the schema is older than this release: run `crm migrate`.\n")
            sys.exit(1)
        sys.stderr.write(
            f"crm: a server does not answer ({type(error).__name__}); `crm status` says which. "
            "Check CRM_DATABASE_URL and CRM_REDIS_URL.\n"
        )
        sys.exit(1)


def _run(work: Coroutine[Any, Any, T]) -> T:
    # The servers run on uvloop; it is optional only because Windows lacks it.
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


def _say_version(wanted: bool) -> None:  # noqa: FBT001  as Typer calls it
    if wanted:
        console.print(version("recovery-essentials-crm"))
        raise typer.Exit


@app.callback()
def crm(
    *,
    _: Annotated[
        bool, typer.Option("--version", callback=_say_version, help="Say which release this is.")
    ] = False,
) -> None:
    """Keep where each customer of a shop stands, from its order events."""


@app.command()
def up() -> None:
    """Start everything on this machine: PostgreSQL and Valkey unless given, worker, web."""
    from service.local.up import up as start  # noqa: PLC0415

    config = Config.load()
    sys.exit(asyncio.run(start(config, report=console.print)))


@app.command()
def worker() -> None:
    """Consume orders, publish segment changes; run as many as you like."""
    from consumers.worker import run_worker  # noqa: PLC0415

    config = with_local_stack(Config.load())
    logs.set_up(config.log_level, config.log_format)
    tracing.set_up("crm-worker")
    _run(run_worker(config))


@app.command()
def web() -> None:
    """Serve the HTTP API; run as many as you like."""
    import uvicorn  # noqa: PLC0415

    from service.http.app import create_app  # noqa: PLC0415
    from service.http.auth.local_mode import refuse_open_door  # noqa: PLC0415
    from service.http.server import connection  # noqa: PLC0415

    config = with_local_stack(Config.load())
    logs.set_up(config.log_level, config.log_format)
    tracing.set_up("crm-web")
    asyncio.run(refuse_open_door(config))
    # Live streams never end by themselves, and the server waits for whoever is connected.
    application = create_app(config, stopping=lambda: server.should_exit)
    server = uvicorn.Server(
        uvicorn.Config(
            application,
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
    """Bring the database's schema to what this release needs."""
    from service.db.migrate import upgrade  # noqa: PLC0415

    config = with_local_stack(Config.load())
    revision = asyncio.run(upgrade(config.database_url or ""))
    console.print(f"schema at {revision}")


@app.command()
def status(
    *, as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False
) -> None:
    """Say what runs and where, and what waits. Exit status 1 when a part does not answer."""
    from service.cli.status import read_status, show_status  # noqa: PLC0415

    report = asyncio.run(read_status(with_local_stack(Config.load())))
    if as_json:
        sys.stdout.write(f"{json.dumps(report, indent=2)}\n")
    else:
        show_status(report, console)
    sys.exit(0 if report["ok"] else 1)


@app.command()
def verify() -> None:
    """Check the eight invariants. Exit status 1, with the offending rows, when one fails."""
    from service.cli.verify import run_verify  # noqa: PLC0415

    config = with_local_stack(Config.load())
    sys.exit(asyncio.run(run_verify(config, console)))


@app.command()
def demo() -> None:
    """Start everything, feed it a real shop's orders, then a trickle of live ones."""
    from service.cli.demo import run_demo  # noqa: PLC0415

    sys.exit(asyncio.run(run_demo(Config.load(), console)))
