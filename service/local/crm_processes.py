"""The two processes ``crm worker`` and ``crm web``, as children of a local stack."""

import asyncio
import json
import os
import sys
from functools import partial

from service.config import Config
from service.local import LocalError
from service.local.child import Child
from service.local.ports import LOOPBACK, address, is_free, reached_at
from service.local.stack import LocalStack

COMMAND = (sys.executable, "-P", "-m", "service.cli")
"""With ``-P``, a folder called ``service`` in the current folder is not taken for this package."""


def crm_processes(
    config: Config, stack: LocalStack, database_url: str, redis_url: str
) -> tuple[str, list[Child]]:
    """Return the web process's URL and the children to start, in order.

    Raises LocalError if the port that was asked for is taken.
    """
    http_port = _http_port(config, stack)
    worker_port = config.worker_port or stack.folder.ports.choose("worker")
    http_host = reached_at(config.http_host)
    where = address(http_host, http_port)
    env = {
        **os.environ,
        **_as_environment(config),
        "CRM_DATABASE_URL": database_url,
        "CRM_REDIS_URL": redis_url,
        "CRM_HTTP_PORT": str(http_port),
        "CRM_WORKER_PORT": str(worker_port),
    }
    worker = Child(
        name="worker",
        argv=[*COMMAND, "worker"],
        ready=partial(_readyz, LOOPBACK, worker_port),
        where=f"{LOOPBACK}:{worker_port}",
        env=env,
        grace=config.drain_seconds + 5,
    )
    web = Child(
        name="web",
        argv=[*COMMAND, "web"],
        ready=partial(_readyz, http_host, http_port),
        where=where,
        env=env,
    )
    return f"http://{where}", [worker, web]


def _as_environment(config: Config) -> dict[str, str]:
    """Return all settings that were set, so that the children see the same ones."""
    values = config.model_dump(mode="json", exclude_unset=True)
    return {
        f"CRM_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
        for name, value in values.items()
        if value is not None
    }


def _http_port(config: Config, stack: LocalStack) -> int:
    """Return the port that was asked for; without one, the default or any free port."""
    asked = "http_port" in config.model_fields_set and config.http_port
    if not asked:
        preferred = config.http_port or None
        return stack.folder.ports.choose("web", config.http_host, preferred=preferred)
    if not is_free(asked, config.http_host):
        msg = (
            f"port {asked} on {config.http_host} is taken: stop the program that listens there, "
            "set CRM_HTTP_PORT to another port, or unset it to take any that is free."
        )
        raise LocalError(msg)
    return asked


async def _readyz(host: str, port: int) -> None:
    """Raise unless ``/readyz`` answers 200."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        status = await reader.readline()
    finally:
        writer.close()
    if status.split()[1:2] != [b"200"]:
        msg = status.decode(errors="replace")
        raise ConnectionError(msg)
