"""One trace leads from a published order, or a request, to the published segment change."""

import json
import secrets
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from service import tracing
from service.logs import formatter
from tests.conftest import Service
from tests.events import cloud_event, entry
from tests.integration.http.conftest import client
from tests.integration.worker.scene import all_applied, all_published, out_stream, working
from tests.processes import HOST, Processes
from tests.wait import PATIENCE, until

EMAIL = "jane@example.org"


class Trace:
    """A trace that another program began."""

    def __init__(self, flags: str = "01") -> None:
        self.id = secrets.token_hex(16)
        self.parent = secrets.token_hex(8)
        self.header = f"00-{self.id}-{self.parent}-{flags}"


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """Switch tracing on, and keep the spans in memory."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use(provider)
    yield exporter
    tracing.use(None)
    provider.shutdown()


def spans_of(trace: Trace, spans: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {
        span.name: span
        for span in spans.get_finished_spans()
        if span.context and f"{span.context.trace_id:032x}" == trace.id
    }


async def publish(
    service: Service, order_id: str, traceparent: object = None, **order: Any
) -> None:
    document = cloud_event(order_id, **order)
    if traceparent is not None:
        document["traceparent"] = traceparent
    await service.publish({b"data": json.dumps(document).encode()})


async def test_a_trace_leads_from_the_publisher_through_the_commit_to_the_change(
    service: Service, spans: InMemorySpanExporter
) -> None:
    jane, john, mary = Trace(), Trace(), Trace()
    await publish(service, "ORD-1", jane.header, email=EMAIL)
    await service.publish(
        {
            b"data": json.dumps(cloud_event("ORD-2", email="john@example.org")).encode(),
            b"traceparent": john.header.encode(),
        }
    )
    await publish(service, "ORD-3", mary.header, email="mary@example.org", total="refused")
    await publish(service, "ORD-4", email="nobody.traces@example.org")
    async with working(service):
        await all_applied(service, 4)
        await all_published(service)

        async def both_published() -> bool:
            return all(
                "send customer-segment-changed" in spans_of(it, spans) for it in (jane, john)
            )

        await until(both_published)
    published = [entry.document for entry in await out_stream(service)]
    traced = {it["traceparent"].split("-")[1]: it for it in published if "traceparent" in it}
    assert traced.keys() == {jane.id, john.id}
    assert len(published) == 3
    for trace in (jane, john):
        found = spans_of(trace, spans)
        assert found.keys() == {"process orders", "send customer-segment-changed"}
        commit, sent = found["process orders"], found["send customer-segment-changed"]
        assert commit.parent
        assert f"{commit.parent.span_id:016x}" == trace.parent
        assert commit.context
        assert sent.parent
        assert sent.parent.span_id == commit.context.span_id
        assert traced[trace.id]["traceparent"] == f"00-{trace.id}-{commit.context.span_id:016x}-01"
    assert not spans_of(mary, spans)  # a dead letter changes nothing
    batches = [span for span in spans.get_finished_spans() if span.name == "batch orders"]
    linked = {f"{link.context.trace_id:032x}" for span in batches for link in span.links}
    assert linked == {jane.id, john.id}
    assert "example.org" not in "".join(span.to_json() for span in spans.get_finished_spans())


@pytest.mark.parametrize("given", ["", "00-0-0-00", "x" * 500, 5, {"a": 1}, "00-" + "0" * 32])
async def test_an_invalid_trace_is_ignored_and_the_order_applied(
    service: Service, spans: InMemorySpanExporter, given: object
) -> None:
    await publish(service, "ORD-1", given, email=EMAIL)
    async with working(service):
        await all_applied(service, 1)
        await all_published(service)
    assert not spans.get_finished_spans()
    (change,) = await out_stream(service)
    assert "traceparent" not in change.document


async def test_a_trace_that_its_publisher_does_not_sample_is_passed_on_and_not_kept(
    service: Service, spans: InMemorySpanExporter
) -> None:
    trace = Trace(flags="00")
    await publish(service, "ORD-1", trace.header, email=EMAIL)
    async with working(service):
        await all_applied(service, 1)
        await all_published(service)
    assert not spans_of(trace, spans)
    (change,) = await out_stream(service)
    assert change.document["traceparent"].startswith(f"00-{trace.id}-")
    assert change.document["traceparent"].endswith("-00")


async def test_an_order_that_changes_nothing_is_not_linked_to_an_earlier_change(
    service: Service, spans: InMemorySpanExporter
) -> None:
    await service.ingest(entry("ORD-1", email=EMAIL))  # without a trace, and no relay runs
    await publish(service, "ORD-2", Trace().header, email=EMAIL, status="cancelled")
    async with working(service):
        await all_applied(service, 2)
    (change,) = await service.rows("SELECT traceparent FROM segment_changes")
    assert change["traceparent"] is None
    assert spans.get_finished_spans()


async def test_nothing_is_traced_unless_tracing_is_on(service: Service) -> None:
    await publish(service, "ORD-1", Trace().header, email=EMAIL)
    async with working(service):
        await all_applied(service, 1)
        await all_published(service)
    (row,) = await service.rows("SELECT traceparent FROM segment_changes")
    assert row["traceparent"] is None


async def test_a_trace_leads_from_a_request_to_the_change(
    service: Service, spans: InMemorySpanExporter
) -> None:
    await service.ingest(entry("ORD-1", email=EMAIL))
    trace, reading = Trace(), Trace()
    async with client(service) as http:
        one = f"/api/v1/customers/{(await http.get('/api/v1/customers')).json()['items'][0]['id']}"
        await http.get(one, headers={"traceparent": reading.header})
        answer = await http.patch(
            one, json={"segment": "vip"}, headers={"traceparent": trace.header}
        )
        assert answer.status_code == 200
    async with working(service):
        await all_published(service)
    first, second = [entry.document for entry in await out_stream(service)]
    assert "traceparent" not in first
    assert second["traceparent"].split("-")[1] == trace.id
    served = spans_of(trace, spans)["PATCH /api/v1/customers/{id}"]
    assert served.attributes
    assert served.attributes["http.response.status_code"] == 200
    assert served.attributes["http.route"] == "/api/v1/customers/{id}"
    assert spans_of(reading, spans).keys() == {"GET /api/v1/customers/{id}"}


async def test_a_log_line_names_its_trace(
    service: Service, spans: InMemorySpanExporter, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    caplog.handler.setFormatter(formatter("json"))
    trace = Trace()
    async with client(service) as http:
        await http.get("/livez", headers={"traceparent": trace.header})
    lines = [json.loads(line) for line in caplog.text.splitlines()]
    (line,) = (it for it in lines if it.get("route") == "/livez")
    assert line["traceId"] == trace.id
    assert spans_of(trace, spans)


@pytest.fixture
def collector() -> Iterator[tuple[str, list[ExportTraceServiceRequest]]]:
    """Receive exported spans, as an OpenTelemetry collector does."""
    received: list[ExportTraceServiceRequest] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.path == "/v1/traces"
            received.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer((HOST, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://{HOST}:{server.server_port}", received
        server.shutdown()
        thread.join()


async def test_processes_export_to_the_collector_that_the_otel_variables_name(
    service: Service,
    crm: Processes,
    collector: tuple[str, list[ExportTraceServiceRequest]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    endpoint, received = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    order, request = Trace(), Trace()
    worker, web = await crm.worker(), await crm.web()
    await publish(service, "ORD-1", order.header, email=EMAIL)
    async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as http:
        url = f"http://{HOST}:{web.port}/api/v1/statistics"
        await http.get(url, headers={"traceparent": request.header})
    await all_applied(service, 1)
    await all_published(service)
    for process in (worker, web):
        await process.terminate()
    names = {
        (span.name, span.trace_id.hex())
        for export in received
        for resource in export.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    }
    assert ("process orders", order.id) in names
    assert ("send customer-segment-changed", order.id) in names
    assert ("GET /api/v1/statistics", request.id) in names
    text = str(received)
    assert "crm-worker" in text
    assert "crm-web" in text
