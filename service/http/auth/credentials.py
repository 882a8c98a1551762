"""Which API keys open, and whether any credential exists; not every request asks the database.

A key that was revoked or has expired, and a first or last credential, act within REMEMBERED
seconds in every process.
"""

import hmac
import logging
from ipaddress import ip_address

from sqlalchemy.ext.asyncio import AsyncEngine

from service.config import Config, ConfigError
from service.core.scopes import Actor
from service.core.tokens import ApiKey
from service.db.accounts import api_keys
from service.db.engine import DATABASE_AWAY, create_engine, sqlstate
from service.http.auth.limits import Buckets, Clock
from service.http.auth.lookup_cache import REMEMBERED, Remembered, Touches
from service.http.auth.session_cookies import Sessions

log = logging.getLogger(__name__)

_NO_HASH = bytes(32)
_UNDEFINED_TABLE = "42P01"

ATTEMPTS_PER_SECOND, ATTEMPTS_AT_ONCE = 0.2, 20.0
"""Failed authentications, per address; failed sign-ins per account as well."""


class Access:
    """Keys looked up lately, whether credentials exist, and how often who has asked."""

    def __init__(self, config: Config, engine: AsyncEngine, clock: Clock) -> None:
        """Know nothing yet; ``clock`` gives seconds that only rise."""
        self.on_loopback = is_loopback(config.http_host)
        self.requests = Buckets(config.rate_limit_per_second, config.rate_limit_burst, clock)
        self.attempts = Buckets(ATTEMPTS_PER_SECOND, ATTEMPTS_AT_ONCE, clock)
        self.open: bool | None = None
        """Whether no credential existed when last looked; None while that is not known."""
        self._engine = engine
        self._clock = clock
        self._looked = float("-inf")
        self._keys: Remembered[api_keys.StoredKey | None] = Remembered(clock)
        self.touches = Touches(clock)
        self.sessions = Sessions(engine, clock, self.touches)
        """Who is signed in to the dashboard, asked when a request carries no API key."""

    async def configured(self) -> bool:
        """Tell whether any credential exists. Raises what DATABASE_AWAY lists."""
        now = self._clock()
        if self.open is None or now - self._looked > REMEMBERED:
            async with self._engine.connect() as connection:
                self.open = not await api_keys.configured(connection)
            self._looked = now
        return not self.open

    async def actor(self, presented: str) -> Actor | None:
        """Give whom the key stands for; None for any that does not open. Raises as above."""
        key = ApiKey.parse(presented)
        stored = await self._keys.get(key.id, lambda: self._find(key.id)) if key else None
        # Unknown keys are compared too, so that they take as long as wrong ones.
        expected = stored.secret_hash if stored else _NO_HASH
        right = hmac.compare_digest(key.digest if key else b"", expected)
        if not (stored and right and stored.valid):
            return None
        self.touches.touch(f"key:{stored.id}", lambda: self._touch(stored.id))
        return Actor(stored.name, stored.scopes, f"key:{stored.id}")

    async def _find(self, key_id: str) -> api_keys.StoredKey | None:
        async with self._engine.connect() as connection:
            return await api_keys.find_key(connection, key_id)

    async def _touch(self, key_id: str) -> None:
        async with self._engine.begin() as connection:
            await api_keys.touch_key(connection, key_id)


def is_loopback(host: str) -> bool:
    """Tell whether an address, or the name ``localhost``, is this machine only."""
    try:
        address = ip_address(host)
    except ValueError:
        return host.lower() == "localhost"
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


async def announce(state: Access) -> None:
    """Warn, at start, when everybody on this machine may do everything."""
    try:
        configured = await state.configured()
    except DATABASE_AWAY as error:
        log.warning("cannot tell whether credentials exist: %s", type(error).__name__)
        return
    if not configured:
        log.warning(
            "NO SIGN-IN: no API key and no user exists, so whoever is on this machine may do"
            " everything. `crm keys create` or `crm users add` ends that."
        )


async def refuse_open_door(config: Config) -> None:
    """Raise ConfigError when others could reach the service, and no credential exists.

    While the database is away that is not known, and no reason to stay down: nobody is let in
    without a credential on such an address anyway.
    """
    if is_loopback(config.http_host):
        return
    engine = create_engine(config.database_url or "", application="crm web", pool_size=1)
    try:
        async with engine.connect() as connection:
            configured = await api_keys.configured(connection)
    except DATABASE_AWAY as error:
        configured = sqlstate(error) != _UNDEFINED_TABLE
    finally:
        await engine.dispose()
    if not configured:
        msg = (
            f"CRM_HTTP_HOST={config.http_host} lets other machines in, and nobody could sign in: "
            "there is no API key and no user. Create one with `crm keys create NAME --scope read` "
            "or `crm users add EMAIL --role admin`, or unset CRM_HTTP_HOST to serve this machine "
            "only."
        )
        raise ConfigError(msg)
