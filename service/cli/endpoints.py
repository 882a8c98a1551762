"""``crm hooks``: register endpoints, which get events by HTTP, and decide about them."""

import asyncio
import secrets
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, TypeVar, TypeVarTuple

import orjson
import typer
from sqlalchemy.ext.asyncio import AsyncConnection

from service.cli.database import actor, in_database
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
from service.core.endpoints import (
    MOST_ENDPOINTS,
    OVERLAP,
    BadSecretError,
    BadUrlError,
    EventKind,
    checked_secret,
    make_secret,
)
from service.core.numbers import number_of
from service.db.operations import endpoints
from service.db.operations.endpoints import (
    MOST_COUNTED,
    Endpoint,
    NewEndpoint,
    NoSuchEndpointError,
    TooManyEndpointsError,
)
from service.resolution import check_url

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

_HOUR = timedelta(hours=1)
_Id = Annotated[int, typer.Argument(metavar="ID", min=1, help="The id that `endpoints` shows.")]
_SecretFile = Annotated[
    Path | None,
    typer.Option(
        "--secret-file",
        metavar="FILE",
        help="Take the secret from this file; - for standard input. Without it, one is made.",
    ),
]


def add_endpoint(
    url: Annotated[str, typer.Argument(metavar="URL", help="Where the events go, by POST.")],
    *,
    event: Annotated[
        list[EventKind] | None,
        typer.Option(help="The kind of events that it gets. Repeat it for both, or leave it out."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="TIME",
            help="It gets events from this time on, such as 2026-11-22T10:00:00Z. "
            "Without it: from now on.",
        ),
    ] = None,
    description: Annotated[str, typer.Option(metavar="TEXT", help="What it is, for people.")] = "",
    secret_file: _SecretFile = None,
    allow_private: Annotated[
        bool,
        typer.Option(
            "--allow-private", help="It may be in a private network, and use plain HTTP there."
        ),
    ] = False,
) -> None:
    """Send segment changes and removed customers to a URL.

    Prints the secret that signs them. This is the only time it is shown. Requests are signed as
    Standard Webhooks says; docs/webhooks-out.md has receivers in Python and JavaScript.
    """
    try:
        asyncio.run(check_url(url, allow_private=allow_private))
    except BadUrlError as error:
        fail(f"the URL {error}.")
    new = NewEndpoint(
        url, event or tuple(EventKind), description, allow_private, _time(since) if since else None
    )
    secret = _secret(secret_file)
    try:
        number = in_database(endpoints.add, new, secret, actor())
    except TooManyEndpointsError:
        fail(f"there are {MOST_ENDPOINTS} endpoints already; remove one first.")
    note(f"Endpoint {number} gets {' and '.join(sorted(new.events))}.")
    typer.echo(secret)
    note("This secret cannot be shown again.")


def list_endpoints(*, as_json: Annotated[bool, AsJson] = False) -> None:
    """List the endpoints, how far each one is, and what fails."""
    found = in_database(endpoints.endpoints)
    if as_json:
        print_json([_document(each) for each in found])
    elif found:
        columns = ("Id", "URL", "State", "Waiting", "Lag", "Last delivered", "Failures", "Why")
        print_table(columns, [_row(each) for each in found])
    else:
        say("No endpoints. `crm hooks add-endpoint` registers one.")


def pause(
    endpoint: _Id,
    *,
    why: Annotated[str, typer.Option(metavar="TEXT", help="Why, for those who look.")] = "",
) -> None:
    """Send nothing more to an endpoint until `resume`. Nothing is lost meanwhile."""
    paused = _decide(endpoints.pause, endpoint, actor(), why or "somebody paused it")
    say(f"endpoint {endpoint} {'is paused' if paused else 'was paused already'}")


def resume(endpoint: _Id) -> None:
    """Go on sending to an endpoint, at once. What it has missed comes first."""
    _decide(endpoints.resume, endpoint, actor())
    say(f"endpoint {endpoint} is active")


def replay(
    endpoint: _Id,
    *,
    since: Annotated[
        str,
        typer.Option("--from", metavar="TIME", help="From when on, such as 2026-11-22T10:00:00Z."),
    ],
    skip: Annotated[
        bool,
        typer.Option(
            "--skip", help="Also leave out events from before, if it does not have them yet."
        ),
    ] = False,
) -> None:
    """Send all events since a time again, with the same ids."""
    moved = _decide(endpoints.replay, endpoint, _time(since), actor(), skip)
    say(f"{number_of(moved.again, 'event', 'events')} will be sent again to endpoint {endpoint}")
    if moved.skipped:
        say(f"{number_of(moved.skipped, 'event', 'events')} will never be sent to it")


def renew_secret(
    endpoint: _Id,
    *,
    secret_file: _SecretFile = None,
    keep: Annotated[
        float,
        typer.Option(
            metavar="HOURS", min=0, max=24 * 30, help="How long the former secret signs as well."
        ),
    ] = OVERLAP / _HOUR,
) -> None:
    """Sign with a new secret, and print it. For a while, the former one signs as well."""
    secret = _secret(secret_file)
    _decide(endpoints.renew_secret, endpoint, secret, keep * _HOUR, actor())
    typer.echo(secret)
    note(f"This secret cannot be shown again. The former one ends in {keep:g} hours.")


def remove_endpoint(endpoint: _Id) -> None:
    """Forget an endpoint and its secret."""
    _decide(endpoints.remove, endpoint, actor())
    say(f"endpoint {endpoint} is removed")


def send_test(endpoint: _Id) -> None:
    """Send an event of the type `crm.test` from here, and say what the endpoint answers.

    It is signed like any other. Exit status 1 if the endpoint does not take it.
    """
    to, signing = _decide(_with_secrets, endpoint)
    error = asyncio.run(_send_test(to, signing))
    if error is not None:
        fail(f"endpoint {endpoint} {error}.")
    say(f"endpoint {endpoint} took the event")


async def _send_test(to: Endpoint, signing: list[str]) -> str | None:
    """Send an event that means nothing. Return what went wrong, or None."""
    from consumers.sender import Message, sending  # noqa: PLC0415

    now = datetime.now(UTC)
    event_id = f"test:{secrets.token_hex(8)}"
    body = orjson.dumps(
        {
            "specversion": "1.0",
            "id": event_id,
            "source": "/recovery-essentials-crm",
            "type": "crm.test",
            "time": now,
            "datacontenttype": "application/json",
            "data": {},
        },
        option=orjson.OPT_UTC_Z,
    )
    try:
        async with sending(to.url, allow_private=to.allow_private, at_once=1) as sender:
            return (await sender.send(Message(event_id, body), signing)).error
    except BadUrlError as error:
        return f"has a URL that {error}"


async def _with_secrets(connection: AsyncConnection, endpoint: int) -> tuple[Endpoint, list[str]]:
    found = await endpoints.endpoint(connection, endpoint)
    return found, await endpoints.signing_secrets(connection, endpoint)


def _decide(
    work: Callable[[AsyncConnection, int, *Arguments], Awaitable[T]],
    endpoint: int,
    *arguments: *Arguments,
) -> T:
    try:
        return in_database(work, endpoint, *arguments)
    except NoSuchEndpointError:
        fail(f"there is no endpoint {endpoint}. `crm hooks endpoints` shows all.")


def _time(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text.upper())
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        fail(f"--from {text!r}: write it with an offset, like 2026-11-22T10:00:00Z.", 2)
    return at


def _secret(file: Path | None) -> str:
    """Return the secret in a file, or a new one."""
    if file is None:
        return make_secret()
    try:
        return checked_secret(sys.stdin.read() if str(file) == "-" else file.read_text())
    except (OSError, UnicodeError) as error:
        fail(f"--secret-file: {file} cannot be read ({type(error).__name__}).", 2)
    except BadSecretError as error:
        fail(f"--secret-file: {error}.", 2)


def _row(endpoint: Endpoint) -> tuple[str, ...]:
    waiting = f"{endpoint.waiting:,}" if endpoint.waiting <= MOST_COUNTED else "very many"
    return (
        str(endpoint.id),
        endpoint.url,
        endpoint.state,
        waiting,
        f"{endpoint.lag_seconds:.0f} s",
        moment(endpoint.last_delivered_at),
        f"{endpoint.failures:,}",
        endpoint.paused_because or (endpoint.last_error and f"it {endpoint.last_error}") or "",
    )


def _document(endpoint: Endpoint) -> dict[str, Any]:
    return camel(endpoint._asdict()) | {"state": endpoint.state}
