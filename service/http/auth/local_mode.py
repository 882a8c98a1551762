"""Local mode: until the first credential is made, anyone on this machine may do everything.

The first API key or user ends it for good, even if all of them are revoked, disabled or deleted
later. It never lets anyone on another machine in.
"""

import logging
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from service.config import Config, ConfigError
from service.db.accounts.access import access
from service.db.engine import DATABASE_AWAY, create_engine, sqlstate
from service.http.credential_cache import CredentialCache
from service.http.problems import ProblemError

log = logging.getLogger(__name__)

_UNDEFINED_TABLE = "42P01"


def is_loopback(host: str) -> bool:
    """Return whether an address, or the name ``localhost``, leads to this machine only."""
    try:
        address = ip_address(host)
    except ValueError:
        return host.lower() == "localhost"
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def from_this_machine(request: HTTPConnection, config: Config) -> bool:
    """Return whether a request comes from this machine and the service serves no other.

    Raises ProblemError if it comes from here but names another host: another site may
    have made its own name resolve to 127.0.0.1 (DNS rebinding).
    """
    client = request.client.host if request.client else ""
    if not (is_loopback(config.http_host) and is_loopback(client)):
        return False
    if not _names_this_machine(request.headers.get("host", "")):
        detail = (
            "In local mode the service answers to localhost and 127.0.0.1 only. Use "
            "one of these addresses, or create an API key or a user."
        )
        raise ProblemError(403, "Forbidden", detail)
    return True


def _names_this_machine(host: str) -> bool:
    try:
        return is_loopback(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return False


async def warn_at_start(credentials: CredentialCache) -> None:
    """Log a warning if everybody on this machine may do everything, or if nobody can get in."""
    try:
        access = await credentials.access()
    except DATABASE_AWAY as error:
        log.warning("cannot check whether credentials exist: %s", type(error).__name__)
        return
    if not access.required:
        log.warning(
            "NO SIGN-IN: there is no API key and no user, so anyone on this machine may do"
            " everything. Create one with `crm keys create` or `crm users add` to require sign-in."
        )
    if not access.possible:
        log.warning(
            "NOBODY CAN GET IN: no user is enabled and no API key is valid. Create one with"
            " `crm users add` or `crm keys create`."
        )


async def refuse_open_door(config: Config) -> None:
    """Raise ConfigError if other machines could reach the service in local mode.

    If the database does not answer, nobody knows whether it is in local mode. The service starts
    anyway, because on such an address it lets nobody in without a credential.
    """
    if is_loopback(config.http_host):
        return
    engine = create_engine(config.database_url or "", application="crm web", pool_size=1)
    try:
        async with engine.connect() as connection:
            required = (await access(connection)).required
    except DATABASE_AWAY as error:
        required = sqlstate(error) != _UNDEFINED_TABLE
    finally:
        await engine.dispose()
    if not required:
        msg = (
            f"CRM_HTTP_HOST={config.http_host} lets other machines in, and nobody could sign in: "
            "there is no API key and no user. Create one with `crm keys create NAME --scope read` "
            "or `crm users add EMAIL --role admin`, or unset CRM_HTTP_HOST to serve this machine "
            "only."
        )
        raise ConfigError(msg)
