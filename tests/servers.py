"""The real servers that tests run on: named by URL, in containers, or from the wheels."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from service.local.stack import LocalStack
from service.local.supervise import Supervised
from tests import redis_users, roles

DOCKER_SECONDS = 1
WAIT_SECONDS = 60
PASSWORD = "test"


def send_to_all(pid: int | None, number: signal.Signals) -> None:
    """Send a signal to a server and its children.

    If only the parent process of Postgres hangs, it still answers.
    """
    assert pid, "the server is down"
    parent = psutil.Process(pid)
    for process in (*parent.children(recursive=True), parent):
        with contextlib.suppress(psutil.NoSuchProcess):  # connections end meanwhile
            process.send_signal(number)


@dataclass(frozen=True)
class Embedded:
    """An embedded server, for tests that harm it. Its supervisor restarts it when it is killed."""

    kept: Supervised
    data: Path
    _call: Callable[[Coroutine[Any, Any, None]], None]

    @property
    def pid(self) -> int | None:
        """Its process id; None while it is down."""
        return self.kept.pid

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send it a signal. SIGSTOP makes it hang, SIGCONT makes it continue."""
        if pid := self.pid:
            os.kill(pid, number)

    def stop(self) -> None:
        """Stop it cleanly and keep it down, so that its ``data`` can be changed."""
        self._call(self.kept.stop(hurry=False))

    def start(self) -> None:
        """Start it again on the same port; return when it is ready."""
        self._call(self.kept.start())


@dataclass(frozen=True)
class Servers:
    """The servers' URLs. The role in ``database_url`` (``postgresql://…``) owns the database."""

    database_url: str
    redis_url: str
    """Of somebody who may do everything."""
    postgres: Embedded | None
    redis: Embedded | None
    service_redis_url: str | None = None
    """Of the user that `deploy/redis` makes for the service. None: there are no users."""
    admin_url: str | None = None
    """The URL of an embedded server's superuser."""
    has_roles: bool = False
    """Whether the database has the roles of ``deploy/postgres/roles.sql``."""

    def url_of(self, role: str) -> str:
        """Return the database's URL for one of these roles; the owner's if there are none."""
        return roles.url_of(role, self.database_url) if self.has_roles else self.database_url


@contextmanager
def servers() -> Iterator[Servers]:
    """Yield servers that are ready.

    ``CRM_TEST_DATABASE_URL`` and ``CRM_TEST_REDIS_URL`` name one server each. A server that is not
    named runs in a container if a Docker engine answers, else from the wheels in a temporary
    folder. On Linux the embedded servers stop even when this process is killed.
    """
    database_url = os.environ.get("CRM_TEST_DATABASE_URL")
    redis_url = os.environ.get("CRM_TEST_REDIS_URL")
    admin_url = postgres = redis = None
    with ExitStack() as stack:
        if not (database_url and redis_url) and _docker_answers():
            database_url = database_url or stack.enter_context(_postgres_container())
            redis_url = redis_url or stack.enter_context(_valkey_container())
        if not (database_url and redis_url):
            local, call = stack.enter_context(
                _embedded(postgres=not database_url, redis=not redis_url)
            )
            children = local.supervisor.children
            if kept := children.get("postgres"):
                postgres = Embedded(kept, local.folder.path / "postgres", call)
                password = local.folder.password("postgres")
                admin_url = roles.superuser_url(local.database_url or "", password)
            if kept := children.get("valkey"):
                redis = Embedded(kept, local.folder.path / "valkey", call)
            database_url = database_url or local.database_url
            redis_url = redis_url or local.redis_url
        database_url, redis_url = database_url or "", redis_url or ""
        roles.create_roles(admin_url or database_url, database_url)
        redis_users.create(redis_url)
        if redis is not None:  # a server that is restarted needs to know them
            config = redis.data / "valkey.conf"
            config.write_text(config.read_text() + redis_users.config_lines())
        service_redis_url = redis_users.url_of(redis_users.SERVICE, redis_url)
        yield Servers(
            database_url,
            redis_url,
            postgres,
            redis,
            service_redis_url,
            admin_url,
            has_roles=True,
        )


@contextmanager
def _embedded(
    *, postgres: bool, redis: bool
) -> Iterator[tuple[LocalStack, Callable[[Coroutine[Any, Any, None]], None]]]:
    """Run a local stack in a thread: its event loop goes on while a synchronous test waits."""
    folder = Path(tempfile.mkdtemp(prefix="crm-test-"))
    local = LocalStack(folder, postgres=postgres, redis=redis, report=lambda _: None)
    loop = asyncio.new_event_loop()
    ready: Future[asyncio.Event] = Future()

    async def run() -> None:
        try:
            async with local:
                done = asyncio.Event()
                ready.set_result(done)
                await done.wait()
        except BaseException as error:
            if not ready.done():
                ready.set_exception(error)
            raise

    def call(work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, loop).result(WAIT_SECONDS)

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()), daemon=True)
    thread.start()
    try:
        done = ready.result(WAIT_SECONDS)
        try:
            yield local, call
        finally:
            loop.call_soon_threadsafe(done.set)
    finally:
        thread.join(WAIT_SECONDS)
        loop.close()
        shutil.rmtree(folder, ignore_errors=True)


def _docker_answers() -> bool:
    address = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if address.startswith("unix://"):
        # The client leaks its socket where nobody listens, so look first whether somebody does.
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(address.removeprefix("unix://"))
            except OSError:
                return False
    import docker  # type: ignore[import-untyped]  # noqa: PLC0415

    try:
        client = docker.from_env(timeout=DOCKER_SECONDS)
        try:
            return bool(client.ping())
        finally:
            client.close()
    except docker.errors.DockerException:
        return False


@contextmanager
def _postgres_container() -> Iterator[str]:
    from testcontainers.community.postgres import PostgresContainer  # noqa: PLC0415

    image = PostgresContainer("postgres:18", username="crm", password=PASSWORD, dbname="crm")
    with image as container:
        yield container.get_connection_url(driver=None)


@contextmanager
def _valkey_container() -> Iterator[str]:
    from testcontainers.community.redis import RedisContainer  # noqa: PLC0415

    command = f"valkey-server --appendonly yes --requirepass {PASSWORD}"
    image = RedisContainer("valkey/valkey:9", password=PASSWORD).with_command(command)
    with image as container:
        host, port = container.get_container_host_ip(), container.get_exposed_port(container.port)
        yield f"redis://default:{PASSWORD}@{host}:{port}/0"
