"""``crm hooks``: register the webhooks of shops, change their secrets, list and remove them.

The commands for webhooks that we send are in `service.cli.endpoints`.
"""

import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlalchemy.ext.asyncio import AsyncConnection

from service.cli import endpoints
from service.cli.database import actor, in_database
from service.cli.output import AsJson, camel, fail, moment, note, print_json, print_table, say
from service.core.hooks import HookPlatform
from service.db import installation
from service.db.accounts import hooks
from service.db.accounts.hooks import HookExistsError, HookKey, ListedHook, NoSuchHookError
from service.http.seal import FOR_HOOKS, installation_seal

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Take in the webhooks of shops, and send events to other systems (endpoints).",
)

app.command("add-endpoint")(endpoints.add_endpoint)
app.command("endpoints")(endpoints.list_endpoints)
app.command("pause")(endpoints.pause)
app.command("resume")(endpoints.resume)
app.command("replay")(endpoints.replay)
app.command("renew-secret")(endpoints.renew_secret)
app.command("test")(endpoints.send_test)
app.command("remove-endpoint")(endpoints.remove_endpoint)

_DOMAIN = re.compile(r"[a-z0-9._-]{1,200}")
_SHORTEST_SECRET, _LONGEST_SECRET = 16, 1000
_STANDARD_INPUT = Path("-")

_Platform = Annotated[
    HookPlatform, typer.Argument(metavar="PLATFORM", help="shopify, woocommerce or standard.")
]
_Domain = Annotated[
    str,
    typer.Option(
        metavar="HOST",
        help="The shop's own domain, such as my-shop.myshopify.com. It is the source of its "
        "events.",
    ),
]
_SecretFile = Annotated[
    Path,
    typer.Option(
        metavar="FILE",
        help="A file that has the shop's secret and nothing else. -: standard input.",
    ),
]


def _overlap(value: str) -> timedelta | None:
    if value == "for-good":
        return None
    if match := re.fullmatch(r"(\d{1,4})([dh])", value):
        return int(match[1]) * timedelta(**{"days" if match[2] == "d" else "hours": 1})
    raise typer.BadParameter("write 7d, 12h, 0h or for-good")


@app.command()
def add(platform: _Platform, *, domain: _Domain, secret_file: _SecretFile) -> None:
    """Take in the webhooks of a shop.

    They are signed with the secret that the shop shows. It is stored encrypted, and never shown.
    """
    key = HookKey(platform.value, _host(domain))
    in_database(_add, key, _secret(secret_file))
    say(f"added {key.platform} {key.domain}")
    note(
        f"Have the shop send its webhooks to https://<this service>/hooks/{key.platform}. Within "
        "three seconds, every web process accepts them."
    )


@app.command()
def rotate(
    platform: _Platform,
    *,
    domain: _Domain,
    secret_file: _SecretFile,
    overlap: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            help="How long earlier secrets stay valid: 7d, 12h, 0h, or `for-good` if the shop "
            "signs with several.",
        ),
    ] = "7d",
) -> None:
    """Add another secret of a shop. The earlier ones end after a while."""
    key = HookKey(platform.value, _host(domain))
    in_database(_rotate, key, _secret(secret_file), _overlap(overlap))
    say(f"rotated {key.platform} {key.domain}")


@app.command("list")
def list_hooks(*, as_json: Annotated[bool, AsJson] = False) -> None:
    """List the shops whose webhooks are taken in, without their secrets."""
    listed = in_database(hooks.list_hooks)
    if as_json:
        print_json([_document(hook) for hook in listed])
    elif listed:
        columns = ("Platform", "Domain", "Secrets", "Next ends", "Last delivery", "Last failure")
        print_table(columns, [_row(hook) for hook in listed])
    else:
        say("No webhooks. `crm hooks add` takes in those of a shop.")


@app.command()
def remove(platform: _Platform, *, domain: _Domain) -> None:
    """Refuse the webhooks of a shop from now on.

    Its secrets and counts are deleted. Its customers and orders stay.
    """
    key = HookKey(platform.value, _host(domain))
    in_database(_remove, key)
    say(f"removed {key.platform} {key.domain}")


async def _add(connection: AsyncConnection, key: HookKey, secret: bytes) -> None:
    try:
        await hooks.add_hook(connection, key, await _sealed(connection, secret), actor=actor())
    except HookExistsError:
        fail(f"{key.platform} {key.domain} is there already. `crm hooks rotate` adds a secret.")


async def _rotate(
    connection: AsyncConnection, key: HookKey, secret: bytes, overlap: timedelta | None
) -> None:
    sealed = await _sealed(connection, secret)
    try:
        await hooks.rotate_hook(connection, key, sealed, overlap, actor=actor())
    except NoSuchHookError:
        _fail_unknown(key)


async def _remove(connection: AsyncConnection, key: HookKey) -> None:
    try:
        await hooks.remove_hook(connection, key, actor=actor())
    except NoSuchHookError:
        _fail_unknown(key)


async def _sealed(connection: AsyncConnection, secret: bytes) -> str:
    return installation_seal(await installation.secret(connection)).close(secret, FOR_HOOKS)


def _fail_unknown(key: HookKey) -> None:
    fail(f"there is no hook {key.platform} {key.domain}. `crm hooks list` shows all.")


def _host(domain: str) -> str:
    host = domain.strip().lower().removeprefix("https://").removeprefix("http://").rstrip("/")
    if not _DOMAIN.fullmatch(host):
        fail(f"{domain[:40]!r} is no domain. Write it like my-shop.myshopify.com.", 2)
    return host


def _secret(file: Path) -> bytes:
    """Read a secret. A file's last line break is not part of it."""
    try:
        content = sys.stdin.buffer.read() if file == _STANDARD_INPUT else file.read_bytes()
    except OSError as error:
        fail(f"{file}: {error.strerror}")
    secret = content.strip()
    if not _SHORTEST_SECRET <= len(secret) <= _LONGEST_SECRET or len(secret.split()) != 1:
        fail(
            f"the secret must be one word of {_SHORTEST_SECRET} to {_LONGEST_SECRET:,} characters. "
            "Take it from the shop's settings."
        )
    return secret


def _row(hook: ListedHook) -> tuple[str, ...]:
    failure = (
        f"{moment(hook.last_failure_at)}: {hook.last_failure}" if hook.last_failure else "none"
    )
    return (
        hook.platform,
        hook.domain,
        str(hook.secrets),
        moment(hook.next_expiry),
        moment(hook.last_delivery_at),
        failure,
    )


def _document(hook: ListedHook) -> dict[str, Any]:
    return camel(hook._asdict())
