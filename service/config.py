"""The one reader of the environment: every ``CRM_*`` variable, checked at start."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, ValidationInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.core.judge import Terms
from service.core.partitions import OrdersStream, orders_streams

STATE_FILE = "stack.json"
"""Where a running local stack notes its URLs, inside the data folder."""


class ConfigError(Exception):
    """The configuration cannot be used; the message says which variable and how to mend it."""


def asyncpg_url(url: str) -> str:
    """Name the driver in a PostgreSQL URL. Raises ValueError for any other URL."""
    scheme, _, rest = url.partition("://")
    if scheme not in {"postgresql", "postgres", "postgresql+asyncpg"}:
        msg = "must start with postgresql://, as in postgresql://user:password@host:5432/crm"
        raise ValueError(msg)
    return f"postgresql+asyncpg://{rest}"


def redis_urls(url: str) -> list[str]:
    """Split ``redis://a:6379,redis://b:6379``: several nodes of a cluster; any leads to all."""
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
        msg = "several are for a cluster: set CRM_REDIS_CLUSTER=true"
        raise ValueError(msg)
    return url


class Config(BaseSettings):
    """What the processes need to know. Units are in the names or the descriptions."""

    model_config = SettingsConfigDict(env_prefix="CRM_", extra="ignore", frozen=True)

    database_url: Annotated[str, AfterValidator(asyncpg_url)] | None = Field(
        None, description="PostgreSQL 18 or later. Without it: the local stack's."
    )
    database_read_url: Annotated[str, AfterValidator(asyncpg_url)] | None = Field(
        None, description="A streaming replica of it, for lists and figures. Without it: none."
    )
    database_read_lag_seconds: float = Field(
        60.0, gt=0, description="While it may be further behind, the primary answers."
    )
    redis_cluster: bool = Field(
        False,  # noqa: FBT003  a default, not an argument
        description="The URL leads to a Redis Cluster; several nodes of it by commas.",
    )
    redis_url: Annotated[str, AfterValidator(_redis_url)] | None = Field(
        None, description="Redis 7 or Valkey 9, or later. Without it: the local stack's."
    )
    data_dir: Path = Field(Path(".crm"), description="Where the local stack keeps its data.")
    http_host: str = Field("127.0.0.1", description="Address the web process listens on.")
    http_port: int = Field(
        8080,
        ge=0,
        le=65535,
        description="Port of the web process; 0 lets the system choose. `crm up` takes "
        "another free port when this one is the default and taken.",
    )
    worker_port: int = Field(
        0, ge=0, le=65535, description="Port of a worker's /livez, /readyz, /metrics; 0: none."
    )
    store_currency: str = Field(
        "USD", pattern="^[A-Z]{3}$", description="The only currency whose amounts are added up."
    )
    orders_stream: str = Field("orders", min_length=1, description="Stream of order events.")
    orders_group: str = Field("crm", min_length=1, description="Consumer group on that stream.")
    orders_partitions: int = Field(
        1,
        ge=1,
        le=1024,
        description="Streams `orders:{0}` to `orders:{n-1}` are read beside `orders`; 1: none.",
    )
    changes_stream: str = Field(
        "customer-segment-changed", min_length=1, description="Stream of segment changes."
    )
    orders_keep_seconds: float = Field(
        7 * 86_400.0,
        gt=0,
        description="Entries that every group has acknowledged are trimmed when this old.",
    )
    orders_keep_entries: int = Field(
        250_000, ge=1, description="Or when there are more of them. A thousand take about a MB."
    )
    changes_keep_entries: int = Field(
        250_000, ge=1, description="The same of the stream of segment changes."
    )
    batch_size: int = Field(
        2000,
        ge=1,
        le=10_000,
        description="Entries read at once; they are applied in two transactions side by side.",
    )
    max_event_bytes: int = Field(
        1_048_576, ge=1024, description="Entries larger than this are dead-lettered unread."
    )
    reclaim_idle_seconds: float = Field(
        60.0,
        gt=0,
        description="Entries pending longer than this are taken over from their consumer. "
        "Longer than the longest batch and drain.",
    )
    drain_seconds: float = Field(
        20.0, gt=0, description="How long a stopping worker may finish what it has read."
    )
    sweep_seconds: float = Field(
        15.0, gt=0, le=60, description="Pause between looks for customers whom time has moved."
    )
    rate_limit_per_second: float = Field(
        50.0, gt=0, description="Requests per second of one credential, or one address without."
    )
    rate_limit_burst: float = Field(
        200.0, ge=1, description="Requests that it may send at once after a quiet time."
    )
    max_body_bytes: int = Field(
        1_048_576, ge=1024, description="Larger request bodies are refused (413)."
    )
    request_seconds: float = Field(
        30.0, gt=0, description="A request that has not begun to answer by then is given up (503)."
    )
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    log_format: Literal["text", "json"] = Field("text", description="One JSON object a line.")

    @property
    def terms(self) -> Terms:
        """Return what the store accepts."""
        return Terms(self.store_currency, self.max_event_bytes)

    @property
    def orders_streams(self) -> tuple[OrdersStream, ...]:
        """All streams of orders; the first is the one that is not partitioned."""
        return orders_streams(self.orders_stream, self.orders_partitions)

    @classmethod
    def load(cls) -> Self:
        """Read the environment. Raises ConfigError naming each variable that is wrong."""
        try:
            return cls()
        except ValidationError as error:
            lines = [
                f"CRM_{'_'.join(str(part) for part in e['loc'][:1]).upper()}: {e['msg']}"
                for e in error.errors()
            ]
            raise ConfigError("\n".join(lines)) from None
