"""The state file of a running ``crm up``, in which other commands find the URLs."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypedDict

from pydantic.alias_generators import to_camel

from service.config import STATE_FILE, Config, ConfigError, asyncpg_url
from service.local.launch import birth
from service.local.private_file import write_private


class ProcessRecord(TypedDict):
    """A child process. ``pid`` is None while it waits to be restarted."""

    pid: int | None
    log: str


@dataclass(frozen=True)
class StackState:
    """A running ``crm up``. The file has these names in camelCase."""

    http_url: str
    redis_url: str
    database_url: str
    pid: int
    birth: str | None
    started_at: str
    parts: Mapping[str, ProcessRecord]


def write_state(data_dir: Path, state: StackState) -> None:
    """Write the state file, which only its owner may read, because the URLs hold passwords."""
    text = json.dumps({to_camel(name): value for name, value in asdict(state).items()}, indent=2)
    write_private(data_dir / STATE_FILE, text)


def read_state(data_dir: Path) -> StackState | None:
    """Return what runs in a data folder; None if nothing does, even if a file was left there."""
    try:
        document = json.loads((data_dir / STATE_FILE).read_text())
        state = StackState(
            **{name: document[to_camel(name)] for name in StackState.__dataclass_fields__}
        )
    except (FileNotFoundError, ValueError, KeyError):
        return None
    return state if state.birth and birth(state.pid) == state.birth else None


def with_local_stack(config: Config) -> Config:
    """Return the configuration with missing URLs filled in from the local stack that runs here.

    Raises ConfigError if a URL is still missing.
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
            f"{config.data_dir.resolve()}. Set {'both' if missing[1:] else 'it'}, or start a local "
            "stack with `crm up`."
        )
        raise ConfigError(msg)
    return config.model_copy(
        update={
            "database_url": config.database_url or asyncpg_url(state.database_url),
            "redis_url": config.redis_url or state.redis_url,
        }
    )
