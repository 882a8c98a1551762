"""All settings: every ``CRM_*`` variable, checked at start. No other module reads them."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, ValidationInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.core.dead_letters import Bounds
from service.core.identifiers import known_country
from service.core.judge import Terms
from service.core.partitions import OrdersStream, orders_streams
from service.server_urls import parse_postgres_url

STATE_FILE = "stack.json"
"""The file in the data folder in which a running local stack keeps its URLs."""


class ConfigError(Exception):
    """The configuration cannot be used. The message says which variable is wrong and why."""


def asyncpg_url(url: str) -> str:
    """Return a PostgreSQL URL that names the driver. Raises ValueError for any other URL."""
    parse_postgres_url(url)
    return f"postgresql+asyncpg://{url.partition('://')[2]}"


def plain_url(url: str) -> str:
    """Return a PostgreSQL URL without the driver's name."""
    return url.replace("postgresql+asyncpg://", "postgresql://", 1)


def redis_urls(url: str) -> list[str]:
    """Split ``redis://a:6379,redis://b:6379``: several nodes of one cluster."""
    return re.split(r",(?=\w+://)", url)


def _redis_url(url: str, others: ValidationInfo) -> str:
    urls = redis_urls(url)
    if not all(one.startswith(("redis://", "rediss://", "unix://")) for one in urls):
        msg = "must start with redis://, rediss:// or unix://, as in redis://:password@host:6379/0"
        raise ValueError(msg)
    cluster = others.data.get("redis_cluster", False)
    if cluster and url.startswith("unix://"):
        msg = "a cluster (CRM_REDIS_CLUSTER) cannot be reached by unix://"
        raise ValueError(msg)
    if not cluster and len(urls) > 1:
        msg = "several URLs are for a cluster: set CRM_REDIS_CLUSTER=true"
        raise ValueError(msg)
    return url


_PAGES = 8
"""How often the bytes that a worker holds are enough for one read, claim or transaction."""


def _enough_for_events(held: int, others: ValidationInfo) -> int:
    largest = others.data.get("max_event_bytes", 0)
    if held < _PAGES * largest:
        msg = f"must be at least {_PAGES} times CRM_MAX_EVENT_BYTES, which is {largest:,}"
        raise ValueError(msg)
    return held


def _country(code: str) -> str:
    if code and not known_country(code):
        msg = (
            f"{code[:20]!r} is no country with phone numbers; write two capital letters as in "
            "ISO 3166, such as BD, GB or US, or leave it out"
        )
        raise ValueError(msg)
    return code


class Config(BaseSettings):
    """The settings. Units are in the names or the descriptions."""

    model_config = SettingsConfigDict(env_prefix="CRM_", extra="ignore", frozen=True)

    database_url: Annotated[str, AfterValidator(asyncpg_url)] | None = Field(
        None, description="PostgreSQL 18 or later. If not set: the local stack's."
    )
    database_read_url: Annotated[str, AfterValidator(asyncpg_url)] | None = Field(
        None,
        description="A streaming replica, for lists and statistics. If not set: the primary.",
    )
    database_read_lag_seconds: float = Field(
        60.0,
        gt=0,
        description="While the replica may be further behind than this, the primary answers.",
    )
    redis_cluster: bool = Field(
        False,  # noqa: FBT003  a default, not an argument
        description="CRM_REDIS_URL names nodes of a Redis Cluster, separated by commas.",
    )
    redis_url: Annotated[str, AfterValidator(_redis_url)] | None = Field(
        None, description="Redis 7 or Valkey 9, or later. If not set: the local stack's."
    )
    data_dir: Path = Field(Path(".crm"), description="Where the local stack keeps its data.")
    http_host: str = Field("127.0.0.1", description="Address the web process listens on.")
    http_port: int = Field(
        8080,
        ge=0,
        le=65535,
        description="Port of the web process; 0 lets the system choose. If it is not set and the "
        "default is taken, `crm up` takes a free port.",
    )
    worker_port: int = Field(
        0, ge=0, le=65535, description="Port of a worker's /livez, /readyz and /metrics; 0: none."
    )
    store_currency: str = Field(
        "USD",
        pattern="^[A-Z]{3}$",
        description="The store's currency, as in ISO 4217. It stays once there are orders.",
    )
    store_country: Annotated[str, AfterValidator(_country)] = Field(
        "",
        description="Where phone numbers without + are from, as in ISO 3166: BD, US. "
        "If not set, only numbers with + identify a customer.",
    )
    orders_stream: str = Field("orders", min_length=1, description="The stream of order events.")
    orders_group: str = Field(
        "crm", min_length=1, description="The workers' consumer group on that stream."
    )
    orders_partitions: int = Field(
        1,
        ge=1,
        le=1024,
        description="If this is n > 1, workers also read streams `orders:{0}` to `orders:{n-1}`.",
    )
    changes_stream: str = Field(
        "customer-segment-changed", min_length=1, description="The stream of segment changes."
    )
    removals_stream: str = Field(
        "customer-removed", min_length=1, description="The stream of customers who are gone."
    )
    orders_keep_seconds: float = Field(
        7 * 86_400.0,
        gt=0,
        description="Entries that every group has acknowledged are trimmed when they are this old.",
    )
    orders_keep_entries: int = Field(
        250_000,
        ge=1,
        description="The same for entries beyond this number. A thousand take about 1 MB.",
    )
    changes_keep_entries: int = Field(
        250_000, ge=1, description="The same, for the stream of segment changes."
    )
    removals_keep_entries: int = Field(
        250_000, ge=1, description="The same, for the stream of customers who are gone."
    )
    dead_letters_keep_days: float = Field(
        365.0, gt=0, description="Dead letters older than this are dropped."
    )
    dead_letters_keep_entries: int = Field(
        100_000, ge=1, description="The oldest dead letters beyond this number are dropped."
    )
    dead_letters_keep_bytes: int = Field(
        10_737_418_240,
        ge=1_048_576,
        description="The oldest are also dropped while all together hold more bytes than this.",
    )
    batch_size: int = Field(
        2000,
        ge=1,
        le=10_000,
        description="Entries that a worker reads at once and applies in two parallel transactions.",
    )
    max_event_bytes: int = Field(
        1_048_576, ge=1024, description="Larger entries become dead letters without being read."
    )
    max_held_bytes: Annotated[int, AfterValidator(_enough_for_events)] = Field(
        64 << 20,
        description="The entries that a worker holds at once take at most this much memory.",
    )
    reclaim_idle_seconds: float = Field(
        60.0,
        gt=0,
        description="Entries that a worker has not acknowledged for this long go to another one. "
        "It must be longer than the longest batch and drain.",
    )
    drain_seconds: float = Field(
        20.0, gt=0, description="How long a stopping worker may take to finish what it has read."
    )
    sweep_seconds: float = Field(
        15.0,
        gt=0,
        le=60,
        description="Pause between two searches for customers whose segment changes by time.",
    )
    rate_limit_per_second: float = Field(
        50.0, gt=0, description="Requests per second per credential, or per address without one."
    )
    rate_limit_burst: float = Field(
        200.0, ge=1, description="Requests that it may send at once after a pause."
    )
    max_body_bytes: int = Field(
        1_048_576,
        ge=1024,
        description="Larger request bodies are refused with status 413. Most routes take less.",
    )
    max_import_bytes: int = Field(
        200_000_000,
        ge=1024,
        description="The dashboard and the API refuse larger files to import. `crm import` does "
        "not.",
    )
    request_seconds: float = Field(
        30.0, gt=0, description="A request whose answer has not begun by then gets status 503."
    )
    log_level: str = Field(
        "INFO",
        pattern="^(DEBUG|INFO|WARNING|ERROR)$",
        description="The lowest level that is logged.",
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="`json`: one JSON object per line."
    )

    @property
    def terms(self) -> Terms:
        """Return what the store accepts."""
        return Terms(self.store_currency, self.max_event_bytes, self.store_country or None)

    @property
    def dead_letter_bounds(self) -> Bounds:
        """Return how many dead letters are kept."""
        return Bounds(
            self.dead_letters_keep_days,
            self.dead_letters_keep_entries,
            self.dead_letters_keep_bytes,
        )

    @property
    def page_bytes(self) -> int:
        """The bytes of entries that one read, claim or transaction may take."""
        return self.max_held_bytes // _PAGES

    @property
    def orders_streams(self) -> tuple[OrdersStream, ...]:
        """All streams of orders; the first one is not partitioned."""
        return orders_streams(self.orders_stream, self.orders_partitions)

    @classmethod
    def load(cls) -> Self:
        """Read the environment. Raises ConfigError, which names each variable that is wrong."""
        try:
            return cls()
        except ValidationError as error:
            lines = [
                f"CRM_{str(fault['loc'][0]).upper()}: {fault['msg'].removeprefix('Value error, ')}"
                for fault in error.errors()
            ]
            raise ConfigError("\n".join(lines)) from None
