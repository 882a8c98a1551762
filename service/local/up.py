"""Run the servers, migrate the schema, and run a worker and the web process, until Ctrl-C."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from service.config import STATE_FILE, Config, asyncpg_url, plain_url
from service.local.crm_processes import crm_processes
from service.local.launch import birth
from service.local.stack import LocalStack
from service.local.state import ProcessRecord, StackState, write_state
from service.server_urls import masked

_say = partial(print, flush=True)


@dataclass(frozen=True)
class Running:
    """A stack that has started, for ``after_start``. ``database_url`` names no driver."""

    http_url: str
    database_url: str
    redis_url: str
    stack: LocalStack


class _Stop:
    """Handles signals: the first one stops everything in order, later ones shorten the stop."""

    def __init__(self, stack: LocalStack, report: Callable[[str], None]) -> None:
        self.requested = False
        self._task = asyncio.current_task()
        self._stack = stack
        self._report = report

    def __call__(self) -> None:
        if self.requested:
            self._stack.supervisor.hurry()
        elif self._task:
            self.requested = True
            self._report("stopping; once more to hurry")
            self._task.cancel()


async def up(
    config: Config,
    *,
    report: Callable[[str], None] = _say,
    after_start: Callable[[Running], Awaitable[None]] | None = None,
    show_secrets: bool = False,
) -> None:
    """Run everything on this machine until SIGINT, SIGTERM or SIGHUP.

    A URL in ``config`` replaces that server, and the report says so. It has URLs with passwords
    only with ``show_secrets``. Nothing that was started is left running. Raises LocalError if
    something cannot be started. ``after_start`` is awaited once everything is ready; a signal
    cancels it, and an error in it ends everything and is raised here.
    """

    def tell(line: str) -> None:
        report(line if show_secrets else masked(line))

    stack = LocalStack(
        config.data_dir,
        postgres=config.database_url is None,
        redis=config.redis_url is None,
        report=report,
    )
    stop = _Stop(stack, report)
    loop = asyncio.get_running_loop()
    signals = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup sets it to be ignored
        signals.append(signal.SIGHUP)
    for number in signals:
        loop.add_signal_handler(number, stop)
    try:
        async with stack:
            for server, variable, url in (
                ("postgres", "CRM_DATABASE_URL", plain_url(config.database_url or "")),
                ("redis", "CRM_REDIS_URL", config.redis_url),
            ):
                if url:
                    tell(f"{server:<9} given   {url} ({variable}; none is started here)")
            await _run(config, stack, tell, after_start)
    except asyncio.CancelledError:
        if not stop.requested:
            raise
        report("stopped")
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


async def _run(
    config: Config,
    stack: LocalStack,
    report: Callable[[str], None],
    after_start: Callable[[Running], Awaitable[None]] | None,
) -> None:
    database_url = plain_url(stack.database_url or config.database_url or "")
    redis_url = stack.redis_url or config.redis_url or ""
    # Imported late: the schema tools take long to import, and the servers need a second anyway.
    from service.db.migrate import upgrade  # noqa: PLC0415

    await upgrade(asyncpg_url(database_url))
    report("schema    ready")
    http_url, children = crm_processes(config, stack, database_url, redis_url)
    for child in children:
        await stack.start(child)
    running = Running(http_url, database_url, redis_url, stack)
    state_file = stack.folder.path / STATE_FILE
    started_at = datetime.now(UTC).isoformat()

    def update_state() -> None:
        with suppress(OSError):  # a full disk is no reason to stop what still runs
            write_current_state()

    def write_current_state() -> None:
        write_state(
            stack.folder.path,
            StackState(
                http_url=running.http_url,
                redis_url=redis_url,
                database_url=database_url,
                pid=os.getpid(),
                birth=birth(os.getpid()),
                started_at=started_at,
                parts={
                    name: ProcessRecord(pid=child.pid, log=str(child.log.path))
                    for name, child in stack.supervisor.children.items()
                },
            ),
        )

    write_current_state()
    stack.supervisor.changed = update_state
    try:
        for line in (running.http_url, redis_url, database_url):
            report(line)
        report(f"Ready. Data and logs are in {stack.folder.path}. Ctrl-C stops everything.")
        report("Programs get the URL of Redis from `crm status --redis-url`.")
        if after_start:
            await after_start(running)
        await stack.supervisor.watch()
    finally:
        stack.supervisor.changed = lambda: None
        state_file.unlink(missing_ok=True)
