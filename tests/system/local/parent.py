"""A local stack in a process of its own, for the tests: ``parent.py stack|up FOLDER``."""

import asyncio
import json
import signal
import sys
import types
from pathlib import Path

from service.config import Config
from service.local import crm_processes
from service.local.stack import LocalStack
from service.local.up import Running, up


async def stack(folder: Path) -> None:
    """Run the servers until SIGTERM."""
    done = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, done.set)
    async with LocalStack(folder) as local:
        say(database=local.database_url, redis=local.redis_url)
        await done.wait()


async def everything(folder: Path) -> None:
    """Run ``up``, with stand-ins for the worker, the web process and the migrations."""
    crm_processes.COMMAND = (sys.executable, str(Path(__file__).with_name("part.py")))  # type: ignore[assignment]
    migrate = types.ModuleType("service.db.migrate")
    migrate.upgrade = upgrade  # type: ignore[attr-defined]
    sys.modules["service.db.migrate"] = migrate
    config = Config.load().model_copy(update={"data_dir": folder})
    await up(config, after_start=started)


async def upgrade(database_url: str) -> None:
    """Print that a migration would run."""
    say_line(f"migrating {database_url.partition(':')[0]}")


async def started(running: Running) -> None:
    """Print the URLs of everything that runs."""
    say(http=running.http_url, database=running.database_url, redis=running.redis_url)


def say(**urls: str | None) -> None:
    """Print the URLs so that the test finds them."""
    say_line("URLS " + json.dumps(urls))


def say_line(line: str) -> None:
    """Print at once."""
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    mode = {"stack": stack, "up": everything}[sys.argv[1]]
    asyncio.run(mode(Path(sys.argv[2])))
