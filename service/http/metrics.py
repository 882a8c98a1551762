"""``/metrics``: the counters that are kept in Postgres, and what waits, for Prometheus.

They are the same whichever replica is asked, because none of them lives in a process.
"""

from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from service import streams
from service.config import Config
from service.db import operations
from service.db.engine import DATABASE_AWAY
from service.db.ingest import SECONDS_BUCKETS, SIZE_BUCKETS
from service.db.statistics import read_figures

_OUTCOMES = {
    "read": "Entries read from the orders stream.",
    "applied": "Events that changed an order.",
    "stale": "Events older than what was known of their order.",
    "duplicate": "Events that had been applied before.",
    "conflict": "Events that contradict another of the same version and time.",
    "dead_lettered": "Entries refused and kept as dead letters.",
}


async def render(config: Config, engine: AsyncEngine, redis: Redis) -> bytes:
    """Collect and write the exposition format; a part that is away shows as ``crm_up`` 0."""
    up = GaugeMetricFamily("crm_up", "Whether a part answers.", labels=["part"])
    metrics: list[Metric] = [up]
    try:
        metrics += await _of_database(engine)
        up.add_metric(["database"], 1)
    except DATABASE_AWAY:
        up.add_metric(["database"], 0)
    try:
        metrics += await _of_redis(config, redis)
        up.add_metric(["redis"], 1)
    except streams.REDIS_ERRORS:
        up.add_metric(["redis"], 0)
    registry = CollectorRegistry()
    registry.register(_Collected(metrics))
    return generate_latest(registry)


class _Collected(Collector):
    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


async def _of_database(engine: AsyncEngine) -> list[Metric]:
    async with engine.connect() as connection:
        totals = await operations.totals(connection)
        waiting = await operations.waiting(connection)
        figures = await read_figures(connection)
    segments = GaugeMetricFamily("crm_customers", "Customers by segment.", labels=["segment"])
    for segment, figure in figures.items():
        segments.add_metric([segment.value], figure.customers)
    return [
        *(
            CounterMetricFamily(f"crm_entries_{name}", text, value=getattr(totals, name))
            for name, text in _OUTCOMES.items()
        ),
        _histogram(
            "crm_batch_entries",
            "Entries per batch.",
            SIZE_BUCKETS,
            totals.size_buckets,
            totals.read,
        ),
        _histogram(
            "crm_batch_seconds",
            "Duration of a batch, from its first statement to before its commit.",
            SECONDS_BUCKETS,
            totals.seconds_buckets,
            totals.seconds,
        ),
        segments,
        GaugeMetricFamily("crm_dead_letters", "Dead letters kept.", value=waiting.dead_letters),
        GaugeMetricFamily(
            "crm_unpublished_changes",
            "Segment changes not yet on the out-stream.",
            value=waiting.unpublished,
        ),
        GaugeMetricFamily(
            "crm_oldest_unpublished_seconds",
            "Age of the oldest of them.",
            value=waiting.oldest_unpublished_seconds,
        ),
        GaugeMetricFamily(
            "crm_sweep_overdue_seconds",
            "How far the sweep is behind its promise of a minute.",
            value=waiting.sweep_overdue_seconds,
        ),
    ]


async def _of_redis(config: Config, redis: Redis) -> list[Metric]:
    backlog = await streams.backlog(redis, config.orders_stream, config.orders_group)
    metrics: list[Metric] = [
        GaugeMetricFamily("crm_pending_entries", "Read, not acknowledged.", value=backlog.pending),
        GaugeMetricFamily(
            "crm_oldest_pending_seconds",
            "Age of the oldest of them.",
            value=backlog.oldest_pending_seconds,
        ),
        GaugeMetricFamily(
            "crm_consumers", "Consumers in the group, idle ones too.", value=len(backlog.consumers)
        ),
    ]
    if backlog.lag is not None:
        metrics.append(GaugeMetricFamily("crm_lag_entries", "Not yet read.", value=backlog.lag))
    if backlog.quietest_seconds is not None:
        metrics.append(
            GaugeMetricFamily(
                "crm_last_read_seconds",
                "Since any consumer last asked for entries.",
                value=backlog.quietest_seconds,
            )
        )
    return metrics


def _histogram(
    name: str, text: str, bounds: Sequence[float], counts: Sequence[int], total: float
) -> HistogramMetricFamily:
    cumulated, buckets = 0, []
    for bound, count in zip(bounds, counts, strict=True):
        cumulated += count
        buckets.append(("+Inf" if bound == float("inf") else str(bound), float(cumulated)))
    return HistogramMetricFamily(name, text, buckets=buckets, sum_value=total)
