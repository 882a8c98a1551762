"""PostgreSQL and Valkey on this machine, in one data folder, as long as a context lasts."""

from collections.abc import Callable
from pathlib import Path
from typing import Self

from service.local import postgres, valkey
from service.local.child import Child
from service.local.folder import DataFolder
from service.local.supervise import Supervised, Supervisor


class LocalStack:
    """Servers that run inside ``async with LocalStack(folder) as stack``.

    Inside, ``database_url`` (role ``crm``, owner of database ``crm``) and ``redis_url`` lead to
    servers that are ready, and that are restarted on the same port if they crash. Each is None if
    that server was not asked for. Entering raises LocalError if a server cannot be started. On
    Linux the servers stop even if this process is killed, and when the *thread* that entered ends.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        postgres: bool = True,
        redis: bool = True,
        report: Callable[[str], None] = print,
    ) -> None:
        """Choose the servers. Nothing is created or started before entering."""
        self.database_url: str | None = None
        self.redis_url: str | None = None
        self.supervisor = Supervisor(data_dir.resolve(), report)
        self._data_dir = data_dir
        self._wanted = (postgres, redis)
        self._report = report

    async def __aenter__(self) -> Self:
        """Lock the folder, stop what an earlier run left running, and start the servers."""
        self.folder = DataFolder(self._data_dir, self._report)
        try:
            await self.folder.reap()
            await self._start_servers()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop everything in reverse order, then unlock the folder."""
        try:
            await self.supervisor.stop()
        finally:
            self.folder.close()

    async def start(self, child: Child) -> Supervised:
        """Start another child, and wait until it is ready. It will stop before all earlier ones."""
        return await self.supervisor.start(child)

    async def _start_servers(self) -> None:
        with_postgres, with_redis = self._wanted
        if with_postgres:
            child, self.database_url = await postgres.prepare(self.folder)
            await self.start(child)
        if with_redis:
            child, self.redis_url = valkey.prepare(self.folder)
            await self.start(child)
