"""``crm publish``: send the orders of a file as events, as a shop would."""

import asyncio
from contextlib import aclosing
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from service.cli.database import connected, problem
from service.cli.demo import stream_for
from service.cli.import_report import refused_lines
from service.cli.output import fail, say, stages
from service.config import Config
from service.core.numbers import number_of
from service.core.printable import printable
from service.db.accounts.hooks import only_domains
from service.db.engine import DATABASE_AWAY
from service.db.store_clock import read_store_clock
from service.local.state import with_local_stack
from service.streams import redis_client
from service.transfer.import_outcome import ImportOutcome
from service.transfer.import_report import report
from service.transfer.importer import ImportRequest
from service.transfer.publisher import events_of_file
from service.transfer.reading.record import UnreadableError

_PAGE = 500


def publish_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that `crm import` reads.")],
    *,
    layout: Annotated[
        str,
        typer.Option(
            "--format", metavar="NAME", help="The file's format. Without it, its columns decide."
        ),
    ] = "",
    source: Annotated[
        str,
        typer.Option(
            metavar="SHOP", help="What the shop is called, for the ids that it gives to customers."
        ),
    ] = "",
) -> None:
    """Send the orders of a file to the stream of orders, as a shop does.

    Workers apply them. To them, these are news: `crm import` is the quiet way. Orders that would be
    refused are not sent. Exit status 1 if there are any.
    """
    config = with_local_stack(Config.load())
    request = ImportRequest(file, format=layout or None, source=source)
    try:
        sent, outcome = asyncio.run(_publish(config, request))
    except UnreadableError as error:
        fail(printable(f"{file} {error}"))
    except DATABASE_AWAY as error:
        fail(problem(error))
    except OSError as error:
        fail(f"{error.filename or file}: {error.strerror or error}")
    for line in refused_lines(report(outcome)):
        say(line)
    say(f"{number_of(sent, 'event was', 'events were')} sent, {outcome.refused:,} refused.")
    raise typer.Exit(0 if outcome.complete else 1)


async def _publish(config: Config, request: ImportRequest) -> tuple[int, ImportOutcome]:
    async with connected(config, "crm publish") as engine, engine.connect() as connection:
        zone = (await read_store_clock(connection)).zone
        domains = await only_domains(connection)
    outcome, sent = ImportOutcome(), 0
    size = request.path.stat().st_size
    events = events_of_file(request, config.terms, zone, domains, outcome)
    async with aclosing(
        redis_client.connect(config.redis_url or "", cluster=config.redis_cluster)
    ) as redis:
        with stages() as show:
            while page := list(islice(events, _PAGE)):
                pipeline: Any = redis.pipeline(transaction=False)
                for event in page:
                    entry = {"data": event.encode()}
                    pipeline.xadd(stream_for(config, entry), entry)
                await pipeline.execute()
                sent += len(page)
                show("Sent", min(sent, size), None)
    list(outcome.new_faults())
    return sent, outcome
