"""Make OpenTelemetry traces if the standard ``OTEL_*`` variables ask for them; else do nothing.

A trace leads from the publisher of an order, whose event carries ``traceparent`` (CloudEvents'
distributed tracing extension, or a field of the stream entry), through the commit that applied it,
to the segment change that it caused, whose event carries ``traceparent`` again. A request over HTTP
is traced in the same way. Whether a trace is kept is decided where it begins: an event without
``traceparent`` is not traced.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from service.config import ConfigError
from service.core.envelope import Entry
from service.core.order_event import Judged, OrderEvent

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer, TracerProvider

_FIELD = "traceparent"
_tracer: "Tracer | None" = None
_flush: Callable[[], object] = bool


def set_up(service: str) -> None:
    """Export traces if the environment names an OTLP endpoint. Raises ConfigError.

    ``service`` is this process's name in traces, unless ``OTEL_SERVICE_NAME`` gives another.
    """
    if not _is_asked_for(os.environ):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError:
        msg = "OTEL_EXPORTER_OTLP_ENDPOINT: traces need the extra recovery-essentials-crm[otel]"
        raise ConfigError(msg) from None
    os.environ.setdefault("OTEL_SERVICE_NAME", service)
    provider = TracerProvider(resource=Resource.create())
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    use(provider)
    global _flush  # noqa: PLW0603
    _flush = provider.force_flush


def flush() -> None:
    """Export the spans that are left and wait for the collector. Call this before the process ends.

    A signal ends a process without giving the exporter time.
    """
    _flush()


def _is_asked_for(environment: Mapping[str, str]) -> bool:
    endpoint = any(
        environment.get(name)
        for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    )
    disabled = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    return endpoint and not disabled and environment.get("OTEL_TRACES_EXPORTER", "otlp") == "otlp"


def use(provider: "TracerProvider | None") -> None:
    """Make spans with this provider, or no spans if it is None."""
    global _tracer  # noqa: PLW0603  one per process, like the log
    _tracer = None if provider is None else provider.get_tracer("recovery-essentials-crm")


def on() -> bool:
    """Return True if this process makes spans."""
    return _tracer is not None


def current_trace_id() -> str | None:
    """Return the id of the trace that the running code is part of. None outside of a trace."""
    traceparent = current_traceparent()
    return traceparent and traceparent.split("-")[1]


def current_traceparent() -> str | None:
    """Return the running code's place in a trace, as W3C Trace Context. None outside of one."""
    if _tracer is None:
        return None
    from opentelemetry.trace import get_current_span  # noqa: PLC0415

    return _traceparent(get_current_span())


@contextmanager
def applying(batch: Sequence[Judged], stream: str) -> Iterator[Mapping[str, str]]:
    """Trace a batch while the block runs; yield each traced order's place in its trace, by id."""
    if _tracer is None:
        yield {}
        return
    from opentelemetry.trace import Link, SpanKind, get_current_span  # noqa: PLC0415

    parents = [
        (event.order_id, context)
        for entry, event in batch
        if isinstance(event, OrderEvent) and (context := _context(_traceparent_of(entry, event)))
    ]
    if not parents:
        yield {}
        return
    attributes = {"messaging.system": "redis", "messaging.destination.name": stream}
    spans = {
        order_id: _tracer.start_span(
            f"process {stream}", context=context, kind=SpanKind.CONSUMER, attributes=attributes
        )
        for order_id, context in parents
    }
    links = [Link(get_current_span(context).get_span_context()) for _, context in parents]
    try:
        with _tracer.start_as_current_span(f"batch {stream}", links=links, attributes=attributes):
            yield {order_id: _traceparent(span) or "" for order_id, span in spans.items()}
    finally:
        for span in spans.values():
            span.end()


def now() -> int:
    """Return the current time in nanoseconds, for `published`."""
    return time.time_ns()


def published(traceparents: Sequence[str | None], stream: str, began: int) -> None:
    """Add to each change's trace that it was published, between ``began`` and now."""
    if _tracer is None:
        return
    from opentelemetry.trace import SpanKind  # noqa: PLC0415

    attributes = {"messaging.system": "redis", "messaging.destination.name": stream}
    for traceparent in traceparents:
        if context := _context(traceparent):
            _tracer.start_span(
                f"send {stream}",
                context=context,
                kind=SpanKind.PRODUCER,
                attributes=attributes,
                start_time=began,
            ).end()


@contextmanager
def serving(method: str, traceparent: str | None) -> Iterator["Span"]:
    """Trace a request while the block runs. Call this only if `on` returns True."""
    from opentelemetry.trace import SpanKind, get_tracer  # noqa: PLC0415

    tracer = _tracer or get_tracer("recovery-essentials-crm")
    attributes = {"http.request.method": method}
    with tracer.start_as_current_span(
        method,
        context=_context(traceparent),
        kind=SpanKind.SERVER,
        attributes=attributes,
        record_exception=False,  # its message may quote a person's data
        set_status_on_exception=False,
    ) as span:
        yield span


def _traceparent_of(entry: Entry, event: OrderEvent) -> str | None:
    """Return the traceparent of the entry's own field, or else of the document. None if neither."""
    if field := entry.fields.get(_FIELD.encode()):
        return field.decode(errors="replace")
    return event.traceparent


def _context(traceparent: str | None) -> "Context | None":
    """Parse a place in a trace. None if it is missing or not valid."""
    if not traceparent:
        return None
    from opentelemetry.trace import get_current_span  # noqa: PLC0415
    from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
        TraceContextTextMapPropagator,
    )

    context = TraceContextTextMapPropagator().extract({_FIELD: traceparent})
    return context if get_current_span(context).get_span_context().is_valid else None


def _traceparent(span: "Span") -> str | None:
    context = span.get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
