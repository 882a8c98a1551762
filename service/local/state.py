"""What runs here: the state file that ``crm up`` keeps while it runs, and how to read it."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypedDict

from service.config import STATE_FILE, Config, ConfigError, asyncpg_url
from service.local.folder import write_private
from service.local.launch import birth


class ProcessRecord(TypedDict):
    """One child. ``pid`` is None while it waits to be restarted."""

    pid: int | None
    log: str


@dataclass(frozen=True)
class StackState:
    """A running ``crm up``. The keys of the file are these names in camelCase."""

    http_url: str
    redis_url: str
    database_url: str
    pid: int
    birth: str | None
    started_at: str
    parts: Mapping[str, ProcessRecord]


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.title() for word in rest)


def write_state(data_dir: Path, state: StackState) -> None:
    """Write the state file, readable by its owner only: the URLs hold passwords."""
    text = json.dumps({_camel(name): value for name, value in asdict(state).items()}, indent=2)
    write_private(data_dir / STATE_FILE, text)


def read_state(data_dir: Path) -> StackState | None:
    """Return what runs in that folder; None when nothing does, whatever a file left there says."""
    try:
        found = json.loads((data_dir / STATE_FILE).read_text())
        state = StackState(
            **{name: found[_camel(name)] for name in StackState.__dataclass_fields__}
        )
    except (FileNotFoundError, ValueError, KeyError):
        return None
    return state if state.birth and birth(state.pid) == state.birth else None


def own_birth() -> str | None:
    """Return what tells this process from others that had or will have its id."""
    return birth(os.getpid())


def with_local_stack(config: Config) -> Config:
    """Fill the URLs not given from the local stack that runs in the data folder.

    Raises ConfigError when one is still missing.
    """
    if config.database_url and config.redis_url:
        return config
    state = read_state(config.data_dir)
    if state is None:
        missing = [
            name
            for name, url in (
                ("CRM_DATABASE_URL", config.database_url),
                ("CRM_REDIS_URL", config.redis_url),
            )
            if not url
        ]
        msg = (
            f"{' and '.join(missing)} not set, and no local stack runs in "
            f"{config.data_dir.resolve()}: set it, or start one with `crm up`."
        )
        raise ConfigError(msg)
    return config.model_copy(
        update={
            "database_url": config.database_url or asyncpg_url(state.database_url),
            "redis_url": config.redis_url or state.redis_url,
        }
    )
