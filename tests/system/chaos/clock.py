"""The clock of a server, which can be set while the server runs."""

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.system.chaos.points import faketime
from tests.system.chaos.skipped import Skipped
from tests.wait import until

_AHEAD_SECONDS = 30
_TOLERANCE_SECONDS = 10


@dataclass(frozen=True)
class Clock:
    """A clock that libfaketime reads from a file. Without libfaketime it is right for ever."""

    file: Path
    settable: bool = True
    """Whether the server starts under libfaketime. Debian's Redis 7 does not: its memory allocator
    asks for the time before the library is ready."""

    @property
    def environment(self) -> Mapping[str, str]:
        """Return the variables with which the server must be started."""
        library = faketime() if self.settable else None
        self.file.write_text("+0")
        if library is None:
            return {}
        return {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    @contextlib.asynccontextmanager
    async def ahead(self, seconds: Callable[[], Awaitable[float]]) -> AsyncIterator[None]:
        """Set the clock ahead, and back after the block; ``seconds`` asks the server."""
        if faketime() is None:
            raise Skipped("libfaketime is not installed")
        if not self.settable:
            raise Skipped("this server does not start under libfaketime")
        await self._set(_AHEAD_SECONDS, seconds)
        try:
            yield
        finally:
            await self._set(0, seconds)

    async def _set(self, ahead: float, seconds: Callable[[], Awaitable[float]]) -> None:
        self.file.write_text(f"+{ahead}")

        async def is_set() -> bool:
            return abs(await seconds() - time.time() - ahead) < _TOLERANCE_SECONDS

        await until(is_set)
