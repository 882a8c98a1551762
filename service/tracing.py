"""OpenTelemetry traces, when the standard ``OTEL_*`` variables ask for them; else nothing at all.

One trace leads from the publisher of an order, whose event carries ``traceparent`` (CloudEvents'
distributed tracing extension, or a field of the stream entry), through the commit that applied it,
to the segment change it caused, whose event carries ``traceparent`` again. So it is with a request
over HTTP. Whether a trace is kept is decided where it begins: events without one are not traced.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import orjson

from service.config import ConfigError
from service.core.envelope import Entry, payload

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer, TracerProvider

_FIELD = "traceparent"
_tracer: "Tracer | None" = None
_flush: Callable[[], object] = bool


def set_up(service: str) -> None:
    """Export traces if the environment names an OTLP endpoint. Raises ConfigError.

    ``service`` is what traces call this process unless ``OTEL_SERVICE_NAME`` says otherwise.
    """
    if not _wanted(os.environ):
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
    """Export what is left, for a process that a signal will end; waits for the collector."""
    _flush()


def _wanted(environment: Mapping[str, str]) -> bool:
    endpoint = any(
        environment.get(name)
        for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    )
    disabled = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    return endpoint and not disabled and environment.get("OTEL_TRACES_EXPORTER", "otlp") == "otlp"


def use(provider: "TracerProvider | None") -> None:
    """Make spans with this provider; with None, make none."""
    global _tracer  # noqa: PLW0603  one per process, like the log
    _tracer = None if provider is None else provider.get_tracer("recovery-essentials-crm")


def on() -> bool:
    """Tell whether spans are made."""
    return _tracer is not None


def current_trace_id() -> str | None:
    """Give the id of the trace that the running code is part of."""
    traceparent = current_traceparent()
    return traceparent and traceparent.split("-")[1]


def current_traceparent() -> str | None:
    """Give the running code's place in a trace, as W3C Trace Context writes it."""
    if _tracer is None:
        return None
    from opentelemetry.trace import get_current_span  # noqa: PLC0415

    return _traceparent(get_current_span())


@contextmanager
def applying(batch: Iterable[tuple[Entry, Any]], stream: str) -> Iterator[Mapping[str, str]]:
    """Trace a batch; give the place in its trace of each order whose event carried one."""
    if _tracer is None:
        yield {}
        return
    from opentelemetry.trace import Link, SpanKind, get_current_span  # noqa: PLC0415

    parents = [
        (verdict.order_id, context)
        for entry, verdict in batch
        if hasattr(verdict, "order_id") and (context := _context(_told_by(entry)))
    ]
    if not parents:
        yield {}
        return
    about = {"messaging.system": "redis", "messaging.destination.name": stream}
    spans = {
        order_id: _tracer.start_span(
            f"process {stream}", context=context, kind=SpanKind.CONSUMER, attributes=about
        )
        for order_id, context in parents
    }
    links = [Link(get_current_span(context).get_span_context()) for _, context in parents]
    try:
        with _tracer.start_as_current_span(f"batch {stream}", links=links, attributes=about):
            yield {order_id: _traceparent(span) or "" for order_id, span in spans.items()}
    finally:
        for span in spans.values():
            span.end()


def now() -> int:
    """Give the moment as `published` wants it."""
    return time.time_ns()


def published(traceparents: Sequence[str | None], stream: str, began: int) -> None:
    """Note in their traces that changes have been published since ``began``."""
    if _tracer is None:
        return
    from opentelemetry.trace import SpanKind  # noqa: PLC0415

    about = {"messaging.system": "redis", "messaging.destination.name": stream}
    for traceparent in traceparents:
        if context := _context(traceparent):
            _tracer.start_span(
                f"send {stream}",
                context=context,
                kind=SpanKind.PRODUCER,
                attributes=about,
                start_time=began,
            ).end()


@contextmanager
def serving(method: str, traceparent: str | None) -> Iterator["Span"]:
    """Trace a request; only while `on`."""
    from opentelemetry.trace import SpanKind, get_tracer  # noqa: PLC0415

    tracer = _tracer or get_tracer("recovery-essentials-crm")
    about = {"http.request.method": method}
    with tracer.start_as_current_span(
        method,
        context=_context(traceparent),
        kind=SpanKind.SERVER,
        attributes=about,
        record_exception=False,  # its message may quote a person's data
        set_status_on_exception=False,
    ) as span:
        yield span


def _told_by(entry: Entry) -> str | None:
    """Find the traceparent of an entry; its document is known to be sound."""
    if given := entry.fields.get(_FIELD.encode()):
        return given.decode(errors="replace")
    try:
        found = orjson.loads(payload(entry.fields) or b"").get(_FIELD)
    except (AttributeError, ValueError):  # what only the contract's own reader understands
        return None
    return found if isinstance(found, str) else None


def _context(traceparent: str | None) -> "Context | None":
    """Read a place in a trace; None for what is no valid one."""
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
