"""The registered webhooks as a web process knows them: secrets, limits, and counts to write down.

Answers to shops wait for none of the notes. They are written a moment later, and kept in memory
while the database is away.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncEngine

from service.core.hooks import DeliveryOutcome
from service.db.accounts import hooks
from service.db.accounts.hooks import Noted
from service.db.engine import DATABASE_AWAY, in_transaction
from service.http.rate_limits import Buckets, Clock
from service.http.seal import FOR_HOOKS, InstallationSeal

REMEMBERED = 3.0
"""Seconds for which the hooks that were read last are used without asking the database again."""
WRONG_PER_SECOND, WRONG_AT_ONCE = 0.2, 20.0
"""How often one address may send a wrong signature before it is refused unread."""


@dataclass(frozen=True)
class OpenHook:
    """A hook whose secrets can be used."""

    id: int
    platform: str
    domain: str
    secrets: Sequence[bytes]


class _Place(NamedTuple):
    hook_id: int
    topic: str
    outcome: DeliveryOutcome


class HookRegistry:
    """Knows the hooks, and counts their deliveries."""

    def __init__(
        self, engine: AsyncEngine, seal: InstallationSeal, rate: Buckets, clock: Clock
    ) -> None:
        """Start without having read anything. ``rate`` limits the deliveries of each hook."""
        self.rate = rate
        self.wrong = Buckets(WRONG_PER_SECOND, WRONG_AT_ONCE, clock)
        self._engine = engine
        self._seal = seal
        self._clock = clock
        self._hooks: tuple[OpenHook, ...] | None = None
        self._read_at = float("-inf")
        self._noted: dict[_Place, Noted] = {}
        self._writing: asyncio.Task[None] | None = None

    async def of_platform(self, platform: str) -> list[OpenHook]:
        """Return the hooks of a platform.

        While the database is away, they are those that were read last. Raises what DATABASE_AWAY
        lists if none were read before.
        """
        if self._hooks is None or self._clock() - self._read_at > REMEMBERED:
            try:
                self._hooks = await self._read()
            except DATABASE_AWAY:
                if self._hooks is None:
                    raise
            self._read_at = self._clock()
        return [hook for hook in self._hooks if hook.platform == platform]

    async def _read(self) -> tuple[OpenHook, ...]:
        seal = await self._seal.get()
        async with self._engine.connect() as connection:
            registered = await hooks.registered_hooks(connection)
        return tuple(
            OpenHook(
                hook.id,
                hook.platform,
                hook.domain,
                [
                    opened
                    for each in hook.sealed
                    if (opened := seal.open(each, FOR_HOOKS)) is not None
                ],
            )
            for hook in registered
        )

    def note(
        self,
        hook: OpenHook,
        topic: str,
        outcome: DeliveryOutcome,
        at: datetime,
        failure: str | None = None,
    ) -> None:
        """Count a delivery; it is written down soon."""
        place = _Place(hook.id, topic, outcome)
        before = self._noted.get(place)
        deliveries = before.deliveries + 1 if before else 1
        self._noted[place] = Noted(*place, deliveries, at, failure)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())

    async def close(self) -> None:
        """Write down what is counted, if the database answers."""
        if self._writing is not None:
            await self._writing
        await self._write()

    async def _write(self) -> None:
        """Write all counts; keep them for the next time if the database is away."""
        while self._noted:
            noted, self._noted = self._noted, {}
            try:
                await in_transaction(self._engine, hooks.note_deliveries, list(noted.values()))
            except DATABASE_AWAY:
                for place, each in noted.items():
                    later = self._noted.get(place)
                    count = each.deliveries + (later.deliveries if later else 0)
                    self._noted[place] = (later or each)._replace(deliveries=count)
                return
