"""Spans and metrics as a collector receives them, and what happens when there is none."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from experts.base import Expert
from experts.fakes.provider import FakeProvider
from gateway.errors import ConfigError
from gateway.settings.root import Settings
from gateway.telemetry.otlp import endpoint_of, start_tracing
from gateway.telemetry.redaction import Redactor

Serve = Callable[..., Any]
Remote = Callable[..., Expert]


class Collector(ThreadingHTTPServer):
    """Takes OTLP over HTTP on the loopback address, or stalls until it is closed."""

    def __init__(self, *, stalls: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.traces = ExportTraceServiceRequest()
        self.metrics = ExportMetricsServiceRequest()
        self.headers: list[dict[str, str]] = []
        self.stalls = stalls
        self.asked = threading.Event()
        self.closed = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["content-length"]))
        self.server.asked.set()
        if self.server.stalls:
            self.server.closed.wait(30)
            return
        self.server.headers.append(dict(self.headers))
        if self.path == "/v1/traces":
            self.server.traces.MergeFromString(content)
        elif self.path == "/v1/metrics":
            self.server.metrics.MergeFromString(content)
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def running(collector: Collector) -> Iterator[Collector]:
    thread = threading.Thread(target=collector.serve_forever)
    thread.start()
    yield collector
    collector.closed.set()
    collector.shutdown()
    collector.server_close()
    thread.join()


@pytest.fixture
def collector() -> Iterator[Collector]:
    yield from running(Collector())


@pytest.fixture
def stalling() -> Iterator[Collector]:
    yield from running(Collector(stalls=True))


def test_a_collector_gets_the_spans_and_metrics_of_a_request(
    serve: Serve, remote: Remote, provider: FakeProvider, collector: Collector
) -> None:
    telemetry = {"otlp_endpoint": collector.url, "otlp_headers": {"x-tenant": "tenant-seven"}}
    served = serve({"small": remote("small", provider.url)}, telemetry=telemetry)
    served.ask("small")
    served.gateway.telemetry.tracing.close()
    (resource,) = collector.traces.resource_spans
    about = {a.key: a.value.string_value for a in resource.resource.attributes}
    assert about["service.name"] == "pointsman"
    assert "service.instance.id" in about
    names = {span.name for scope in resource.scope_spans for span in scope.spans}
    assert names == {"POST /v1/chat/completions", "chat small"}
    scopes = [s for r in collector.metrics.resource_metrics for s in r.scope_metrics]
    assert "gen_ai.client.token.usage" in {m.name for s in scopes for m in s.metrics}
    assert all(headers["x-tenant"] == "tenant-seven" for headers in collector.headers)


def test_a_collector_that_is_away_or_hangs_changes_nothing(
    serve: Serve, remote: Remote, provider: FakeProvider, stalling: Collector, monkeypatch: Any
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    experts = {"small": remote("small", provider.url)}
    served = serve(experts, telemetry={"otlp_endpoint": stalling.url})
    assert served.ask("small").status_code == 200
    assert stalling.asked.wait(30)
    began = time.monotonic()
    for _ in range(20):
        assert served.ask("small").status_code == 200
    assert time.monotonic() - began < 5
    began = time.monotonic()
    served.gateway.telemetry.tracing.close()
    assert time.monotonic() - began < 10


def settings(**telemetry: Any) -> Settings:
    return Settings.model_validate({"telemetry": telemetry})


def test_the_environment_turns_it_on_and_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    assert endpoint_of(settings()) is None
    assert start_tracing(settings(), Redactor()) is None
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9/")
    assert endpoint_of(settings()) == "http://127.0.0.1:9"
    assert endpoint_of(settings(otlp_endpoint="http://127.0.0.1:8")) == "http://127.0.0.1:8"
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert endpoint_of(settings()) is None


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(ConfigError, match=r"pointsman\[otel\]"):
        start_tracing(settings(otlp_endpoint="http://127.0.0.1:9"), Redactor())


def test_a_process_that_sends_nothing_does_not_load_the_sdk() -> None:
    code = "import sys, gateway.app; print('opentelemetry.sdk' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
