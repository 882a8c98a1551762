"""Write ``/metrics`` for Prometheus: the counters that Postgres keeps, and the backlogs.

Every replica answers with the same values. Only the requests, the release, and the memory, CPU time
and files of the process belong to the process that answers.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version

from prometheus_client import (
    CollectorRegistry,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from service.config import Config
from service.core.dead_letters import Bounds, Fate, Kept, share_used
from service.core.order_event import Reason
from service.db.accounts import hooks
from service.db.customers import order_conflicts, shop_requests
from service.db.customers.identity import merge
from service.db.engine import DATABASE_AWAY
from service.db.ingest.ingest import SECONDS_BUCKETS, SIZE_BUCKETS
from service.db.operations import (
    dead_letter_removal,
    dead_letters,
    endpoints,
    foreign_entries,
    losses,
    status,
)
from service.db.operations.dead_letters import Selection
from service.db.operations.endpoints import Endpoint
from service.db.operations.trimming import Trims, trims
from service.db.outlook import models, reading
from service.db.outlook.models import StoredModel
from service.db.outlook.reading import Refresh
from service.db.statistics.counters import read_figures
from service.streams import groups, redis_client

# Otherwise each counter and histogram gets a gauge with the time of its creation. Nobody queries
# these gauges, and Prometheus would store them all.
disable_created_metrics()  # type: ignore[no-untyped-call]

_OUTCOMES = {
    "read": "Entries read from the orders stream.",
    "applied": "Events that changed an order.",
    "stale": "Events older than what was known of their order.",
    "duplicate": "Events that had been applied before.",
    "conflict": "Events that contradict another event of the same version and times.",
    "dead_lettered": "Entries refused and kept as dead letters.",
}


_BOUNDS = {Fate.TOO_OLD: "age", Fate.TOO_MANY: "number", Fate.TOO_MUCH: "bytes"}


def measured_requests() -> Histogram:
    """Build the histogram of a web process's requests."""
    return Histogram(
        "crm_http_request_seconds",
        "Time until a request's answer began.",
        ["method", "route", "status"],
        buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0),
        registry=None,
    )


async def render(config: Config, engine: AsyncEngine, redis: Redis, *own: Collector) -> bytes:
    """Collect all metrics and return them in the exposition format.

    ``crm_up`` is 0 for a server that does not answer. ``own``: metrics of this process.
    """
    up = GaugeMetricFamily("crm_up", "Whether a part answers.", labels=["part"])
    release = InfoMetricFamily(
        "crm_build", "The release.", {"version": version("recovery-essentials-crm")}
    )
    metrics: list[Metric] = [up, release]
    try:
        metrics += await _database_metrics(config, engine)
        up.add_metric(["database"], 1)
    except DATABASE_AWAY:
        up.add_metric(["database"], 0)
    try:
        metrics += await _redis_metrics(config, redis)
        up.add_metric(["redis"], 1)
    except redis_client.REDIS_ERRORS:
        up.add_metric(["redis"], 0)
    registry = CollectorRegistry()
    registry.register(_Collected(metrics))
    for collector in own:
        registry.register(collector)
    ProcessCollector(registry=registry)
    return generate_latest(registry)


class _Collected(Collector):
    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


async def _database_metrics(config: Config, engine: AsyncEngine) -> list[Metric]:
    async with engine.connect() as connection:
        totals = await status.totals(connection)
        waiting = await status.database_backlog(connection)
        letters = {row.reason: row.letters for row in await dead_letters.summary(connection)}
        updates = await dead_letters.count(connection, Selection(refused_update=True))
        conflicts = await order_conflicts.count(connection)
        kept = await dead_letter_removal.kept(connection)
        fates = await dead_letter_removal.fates(connection)
        verified = await status.verification(connection)
        lost = await losses.summary(connection)
        foreign = await foreign_entries.summary(connection)
        trimmed = await trims(connection)
        figures = await read_figures(connection)
        log = await status.write_ahead_log(connection)
        merges = await merge.waiting(connection)
        shops = await hooks.list_hooks(connection)
        deliveries = await hooks.topic_counts(connection)
        asked = await shop_requests.oldest_seconds(connection)
        sent_to = await endpoints.endpoints(connection)
        model = await models.newest(connection)
        refresh = await reading.last_refresh(connection)
    segments = GaugeMetricFamily("crm_customers", "Customers by segment.", labels=["segment"])
    for segment, figure in figures.items():
        segments.add_metric([segment.value], figure.customers)
    refused = GaugeMetricFamily("crm_dead_letters", "Dead letters kept.", labels=["reason"])
    for reason in Reason:
        refused.add_metric([reason.value], letters.get(reason.value, 0))
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
            "Seconds that a batch took, from its first statement until before its commit.",
            SECONDS_BUCKETS,
            totals.seconds_buckets,
            totals.seconds,
        ),
        segments,
        refused,
        GaugeMetricFamily(
            "crm_refused_updates",
            "Dead letters that leave an order that is known in an older state.",
            value=updates,
        ),
        GaugeMetricFamily(
            "crm_order_conflicts",
            "Orders whose events have the same version and times, and contradict each other.",
            value=conflicts,
        ),
        *_bound_metrics(kept, config.dead_letter_bounds, fates),
        *_verification_metrics(verified),
        *_loss_metrics(lost, trimmed),
        *_foreign_metrics(foreign),
        *_log_metrics(log),
        *_merge_metrics(merges),
        *_hook_metrics(shops, deliveries),
        GaugeMetricFamily(
            "crm_oldest_shop_request_seconds",
            "How long the oldest request of a shop about personal data has waited for a person.",
            value=asked,
        ),
        *_webhook_metrics(sent_to),
        *_insight_metrics(model, refresh),
        GaugeMetricFamily(
            "crm_unpublished_changes",
            "Segment changes not yet on the out-stream.",
            value=waiting.unpublished,
        ),
        GaugeMetricFamily(
            "crm_unpublished_removals",
            "Removed customers not yet announced on the out-stream.",
            value=waiting.unpublished_removals,
        ),
        GaugeMetricFamily(
            "crm_oldest_unpublished_seconds",
            "Age of the oldest segment change or removal not yet on its out-stream.",
            value=waiting.oldest_unpublished_seconds,
        ),
        GaugeMetricFamily(
            "crm_sweep_overdue_seconds",
            "How late the sweep is; it promises to move every customer within a minute.",
            value=waiting.sweep_overdue_seconds,
        ),
    ]


def _loss_metrics(lost: losses.LossSummary, trimmed: Sequence[Trims]) -> list[Metric]:
    entries = CounterMetricFamily(
        "crm_trimmed_entries", "Entries trimmed off a stream.", labels=["stream"]
    )
    held = GaugeMetricFamily(
        "crm_trimming_held",
        "1: this group has not acknowledged entries that should be trimmed by now.",
        labels=["stream", "group"],
    )
    for trims_of_stream in trimmed:
        entries.add_metric([trims_of_stream.stream], trims_of_stream.entries)
        if trims_of_stream.held_by is not None:
            held.add_metric([trims_of_stream.stream, trims_of_stream.held_by], 1)
    return [
        CounterMetricFamily(
            "crm_losses", "Times that Redis lost entries before they were applied.", lost.total
        ),
        GaugeMetricFamily(
            "crm_open_losses", "Losses that nobody has acknowledged.", value=lost.open
        ),
        GaugeMetricFamily(
            "crm_lost_entries", "Entries known to be lost in open losses.", value=lost.entries
        ),
        entries,
        held,
    ]


def _bound_metrics(kept: Kept, bounds: Bounds, fates: Mapping[Fate, int]) -> list[Metric]:
    used = GaugeMetricFamily(
        "crm_dead_letters_bound_used_ratio",
        "How much of a bound of the dead letters is used; beyond 1, the oldest are dropped.",
        labels=["bound"],
    )
    dropped = CounterMetricFamily(
        "crm_dead_letters_dropped",
        "Dead letters dropped because there were too many.",
        labels=["bound"],
    )
    for fate, share in share_used(kept, bounds).items():
        used.add_metric([_BOUNDS[fate]], share)
        dropped.add_metric([_BOUNDS[fate]], fates.get(fate, 0))
    content = "Bytes of content that the dead letters keep."
    return [GaugeMetricFamily("crm_dead_letters_kept_bytes", content, kept.bytes), used, dropped]


def _foreign_metrics(foreign: foreign_entries.ForeignSummary) -> list[Metric]:
    return [
        CounterMetricFamily(
            "crm_foreign_entries",
            "Entries of the out-streams that this service did not publish.",
            value=foreign.entries,
        ),
        GaugeMetricFamily(
            "crm_open_foreign_records",
            "Records of what somebody else did to a stream that nobody has acknowledged.",
            value=foreign.open,
        ),
        GaugeMetricFamily(
            "crm_unknown_changes",
            "Segment changes of the out-stream on which `crm recover` must decide.",
            value=foreign.unknown,
        ),
    ]


def _merge_metrics(merges: merge.Waiting) -> list[Metric]:
    return [
        GaugeMetricFamily(
            "crm_merges_due", "Pairs of customers who will be merged.", value=merges.due
        ),
        GaugeMetricFamily(
            "crm_oldest_merge_due_seconds",
            "Since when the oldest of these pairs is one person.",
            value=merges.oldest_due_seconds,
        ),
        GaugeMetricFamily(
            "crm_merges_protected",
            "Pairs that events have put together, and that a person must decide on.",
            value=merges.protected,
        ),
    ]


def _hook_metrics(
    shops: Sequence[hooks.ListedHook], counts: Sequence[hooks.TopicCount]
) -> list[Metric]:
    deliveries = CounterMetricFamily(
        "crm_hook_deliveries",
        "Deliveries of shops' webhooks by what became of them.",
        labels=["platform", "outcome"],
    )
    silent = GaugeMetricFamily(
        "crm_hook_last_delivery_timestamp_seconds",
        "When the last delivery of a shop had a right signature; before the first, when it was"
        " added.",
        labels=["platform", "domain"],
    )
    platforms = {shop.id: shop.platform for shop in shops}
    sums = Counter[tuple[str, str]]()
    for count in counts:
        sums[platforms[count.hook_id], count.outcome.value] += count.deliveries
    for (platform, outcome), total in sorted(sums.items()):
        deliveries.add_metric([platform, outcome], total)
    for shop in shops:
        last = shop.last_delivery_at or shop.date_created
        silent.add_metric([shop.platform, shop.domain], last.timestamp())
    return [deliveries, silent]


def _webhook_metrics(sent_to: Sequence[Endpoint]) -> list[Metric]:
    of = ["endpoint"]
    delivered = CounterMetricFamily(
        "crm_webhooks_delivered", "Events that an endpoint has taken.", labels=of
    )
    failed = CounterMetricFamily(
        "crm_webhooks_failed", "Attempts to send to an endpoint that failed.", labels=of
    )
    waiting = GaugeMetricFamily(
        "crm_webhooks_waiting",
        f"Published events that an endpoint does not have yet, up to {endpoints.MOST_COUNTED:,}.",
        labels=of,
    )
    lag = GaugeMetricFamily(
        "crm_webhook_lag_seconds", "Age of the oldest of these events.", labels=of
    )
    failing = GaugeMetricFamily(
        "crm_webhook_failing_seconds",
        "For how long the event that is next has failed.",
        labels=of,
    )
    paused = GaugeMetricFamily(
        "crm_webhook_paused",
        "1: nothing is sent to this endpoint. by: the service itself, or a person.",
        labels=["endpoint", "by"],
    )
    for each in sent_to:
        name = [str(each.id)]
        delivered.add_metric(name, each.delivered)
        failed.add_metric(name, each.failed)
        waiting.add_metric(name, min(each.waiting, endpoints.MOST_COUNTED))
        lag.add_metric(name, each.lag_seconds)
        failing.add_metric(name, each.failing_seconds)
        if each.paused_at:
            paused.add_metric([*name, "person" if each.paused_by else "service"], 1)
    return [delivered, failed, waiting, lag, failing, paused]


def _insight_metrics(model: StoredModel | None, refresh: Refresh) -> list[Metric]:
    """Return how old the predictions are and how far they were off; no values without a model."""
    fitted = GaugeMetricFamily(
        "crm_insight_fitted_timestamp_seconds", "When the model in force was fitted."
    )
    refreshed = GaugeMetricFamily(
        "crm_insight_refreshed_timestamp_seconds",
        "When what is expected of customers was last computed for all of them.",
    )
    error = GaugeMetricFamily(
        "crm_insight_error_orders_ratio",
        "By which share too many orders were expected of the last 90 days.",
    )
    if model and model.fitted:
        fitted.add_metric([], model.fitted_at.timestamp())
        if refresh.completed_at:
            refreshed.add_metric([], refresh.completed_at.timestamp())
        if model.fitted.hold_out:
            error.add_metric([], model.fitted.hold_out.orders.error)
    return [fitted, refreshed, error]


def _log_metrics(log: status.WriteAheadLog) -> list[Metric]:
    fails = GaugeMetricFamily(
        "crm_archive_failing", "1: PostgreSQL could not archive the last segment of its log."
    )
    if log.archive_fails is not None:
        fails.add_metric([], log.archive_fails)
    return [
        CounterMetricFamily(
            "crm_wal_bytes", "Bytes that PostgreSQL has written to its log.", log.written_bytes
        ),
        GaugeMetricFamily(
            "crm_wal_held_bytes",
            "Bytes of the log that a replication slot keeps from being removed.",
            value=log.held_bytes,
        ),
        fails,
    ]


def _verification_metrics(verified: status.Verification | None) -> list[Metric]:
    if verified is None:
        return []
    return [
        GaugeMetricFamily(
            "crm_verified_timestamp_seconds",
            "When `crm verify` last checked the invariants.",
            value=verified.verified_at.timestamp(),
        ),
        GaugeMetricFamily(
            "crm_broken_invariants",
            "How many invariants did not hold when `crm verify` last checked.",
            value=len(verified.broken),
        ),
    ]


async def _redis_metrics(config: Config, redis: Redis) -> list[Metric]:
    each = await groups.prompt_backlogs(redis, config)
    backlog = groups.add_up(each)
    metrics: list[Metric] = [
        GaugeMetricFamily(
            "crm_pending_entries", "Entries read and not yet acknowledged.", value=backlog.pending
        ),
        GaugeMetricFamily(
            "crm_oldest_pending_seconds",
            "Age of the oldest entry read and not yet acknowledged.",
            value=backlog.oldest_pending_seconds,
        ),
        GaugeMetricFamily(
            "crm_consumers",
            "Consumers in the group, including idle ones.",
            value=len(backlog.consumers),
        ),
    ]
    if backlog.lag is not None:
        metrics.append(
            GaugeMetricFamily("crm_lag_entries", "Entries not yet read.", value=backlog.lag)
        )
    if backlog.quietest_seconds is not None:
        metrics.append(
            GaugeMetricFamily(
                "crm_last_read_seconds",
                "Seconds since any consumer last asked for entries.",
                value=backlog.quietest_seconds,
            )
        )
    return metrics + (_metrics_by_stream(each) if len(each) > 1 else [])


def _metrics_by_stream(each: Mapping[str, groups.Backlog]) -> list[Metric]:
    """Return lag and pending entries of each partition, to find the one that is behind."""
    lag = GaugeMetricFamily(
        "crm_stream_lag_entries", "Entries of this stream not yet read.", labels=["stream"]
    )
    pending = GaugeMetricFamily(
        "crm_stream_pending_entries",
        "Entries of this stream read and not yet acknowledged.",
        labels=["stream"],
    )
    for stream, backlog in each.items():
        pending.add_metric([stream], backlog.pending)
        if backlog.lag is not None:
            lag.add_metric([stream], backlog.lag)
    return [lag, pending]


def _histogram(
    name: str, text: str, bounds: Sequence[float], counts: Sequence[int], total: float
) -> HistogramMetricFamily:
    cumulative, buckets = 0, []
    for bound, count in zip(bounds, counts, strict=True):
        cumulative += count
        buckets.append(("+Inf" if bound == float("inf") else str(bound), float(cumulative)))
    return HistogramMetricFamily(name, text, buckets=buckets, sum_value=total)
