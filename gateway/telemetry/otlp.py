"""Turns OpenTelemetry on: spans and metrics over OTLP/HTTP, from threads of the SDK's own."""

from __future__ import annotations

import logging
import os
import socket
import threading
from importlib.metadata import version
from typing import TYPE_CHECKING

from gateway.errors import ConfigError
from gateway.settings.base import secret
from gateway.settings.root import Settings
from gateway.telemetry.redaction import Redactor
from gateway.telemetry.semconv import Model, model_of

if TYPE_CHECKING:
    from gateway.telemetry.tracing import Tracing

_log = logging.getLogger(__name__)
_EXPORT_S = 5.0
_CLOSE_S = 5.0


def endpoint_of(settings: Settings) -> str | None:
    """Where spans go: the configuration's word, else the environment's; None: nowhere."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    given = settings.telemetry.otlp_endpoint or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    return given.rstrip("/") if given else None


def start_tracing(settings: Settings, redactor: Redactor) -> Tracing | None:
    """What makes spans, or None when nobody wants them.

    Raises:
        ConfigError: They are wanted, but the extra that sends them is not installed.
    """
    endpoint = endpoint_of(settings)
    if endpoint is None:
        return None
    try:
        return _start(settings, endpoint, redactor)
    except ModuleNotFoundError as error:
        raise ConfigError(
            "telemetry.otlp_endpoint or OTEL_EXPORTER_OTLP_ENDPOINT asks for traces, "
            "which need the extra `otel`: pip install 'pointsman[otel]'"
        ) from error


def _start(settings: Settings, endpoint: str, redactor: Redactor) -> Tracing:
    # Loaded here, since a process that sends nothing starts faster without.
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from gateway.telemetry.tracing import Content, Tracing

    given = settings.telemetry
    headers = {name: secret(value) for name, value in given.otlp_headers.items()} or None
    about = {
        "service.version": version("pointsman"),
        "service.instance.id": f"{socket.gethostname()}-{os.getpid()}",
    }
    if "OTEL_SERVICE_NAME" not in os.environ:
        about["service.name"] = "pointsman"
    resource = Resource.create(about)
    spans = OTLPSpanExporter(f"{endpoint}/v1/traces", headers=headers, timeout=_EXPORT_S)
    figures = OTLPMetricExporter(f"{endpoint}/v1/metrics", headers=headers, timeout=_EXPORT_S)
    tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
    tracers.add_span_processor(BatchSpanProcessor(spans))
    reader = PeriodicExportingMetricReader(figures)
    meters = MeterProvider([reader], resource=resource, shutdown_on_exit=False)

    def close() -> None:
        # A collector that hangs must not keep the process from ending.
        last = threading.Thread(target=_shut_down, name="last-spans", daemon=True)
        last.start()
        last.join(_CLOSE_S)

    def _shut_down() -> None:
        tracers.shutdown()
        meters.shutdown(timeout_millis=_CLOSE_S * 1e3)

    return Tracing(
        tracers, meters, models_of(settings), Content(given.capture_content, redactor), close
    )


def models_of(settings: Settings) -> dict[str, Model]:
    """What spans say of the experts that the settings name, by id."""
    return {entry.id: model_of(entry) for entry in settings.experts}
