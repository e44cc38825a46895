"""Spans and metrics in the GenAI conventions, through the real application."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import orjson
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from opentelemetry.trace import SpanKind, StatusCode

from experts.base import Call, Expert
from experts.cards import ExpertCard
from experts.fakes.provider import FakeProvider, Reply
from experts.messages import ChatRequest, Event
from gateway.settings.root import Settings
from gateway.telemetry.redaction import Redactor
from gateway.telemetry.semconv import Model, model_of
from gateway.telemetry.tracing import Content, Tracing

Serve = Callable[..., Any]
Remote = Callable[..., Expert]
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
MODELS = {
    "first": Model("openai", "model-one", "one.example", 443),
    "second": Model("anthropic", "model-two", "two.example", 443),
}


class Traced:
    def __init__(self, served: Any, *, captured: bool = False) -> None:
        self.served = served
        self.exporter = InMemorySpanExporter()
        self.reader = InMemoryMetricReader()
        tracers = TracerProvider(shutdown_on_exit=False)
        tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        meters = MeterProvider([self.reader], shutdown_on_exit=False)
        content = Content(captured, Redactor(["planted-secret"]))
        served.gateway.telemetry.tracing = Tracing(tracers, meters, MODELS, content)

    def spans(self, kind: SpanKind) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.kind is kind]

    @property
    def server(self) -> ReadableSpan:
        (span,) = self.spans(SpanKind.SERVER)
        return span

    def metrics(self) -> dict[str, list[Any]]:
        data = self.reader.get_metrics_data()
        assert data is not None
        (scope,) = data.resource_metrics[0].scope_metrics
        return {metric.name: list(metric.data.data_points) for metric in scope.metrics}


@pytest.fixture
def two(serve: Serve, remote: Remote, provider: FakeProvider, spare: FakeProvider) -> Any:
    experts = {
        "first": remote("first", provider.url, quality_prior=0.9),
        "second": remote("second", spare.url, quality_prior=0.2),
    }
    return serve(experts, routing={"epsilon": 0.0})


@pytest.fixture
def traced(two: Any) -> Traced:
    return Traced(two)


def id_of(span: ReadableSpan) -> int:
    context = span.get_span_context()
    assert context is not None
    return context.span_id


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_call_is_a_client_span_below_the_requests_own(traced: Traced, stream: bool) -> None:
    answer = traced.served.ask(
        "first", stream=stream, temperature=0.5, max_tokens=7, seed=3, pointsman={"session": "s1"}
    )
    (client,) = traced.spans(SpanKind.CLIENT)
    server = traced.server
    assert client.name == "chat model-one"
    assert client.parent is not None
    assert client.parent.span_id == id_of(server)
    found = attributes(client)
    wanted = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "model-one",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 7,
        "gen_ai.request.seed": 3,
        "gen_ai.conversation.id": "s1",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 2,
        "server.address": "one.example",
        "server.port": 443,
        "pointsman.expert": "first",
    }
    assert wanted.items() <= found.items()
    assert ("gen_ai.request.stream" in found) == stream
    assert ("gen_ai.response.time_to_first_chunk" in found) == stream
    assert client.status.status_code is StatusCode.UNSET
    assert server.name == "POST /v1/chat/completions"
    wanted = {
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
        "gen_ai.request.model": "first",
        "gen_ai.response.model": "model-one",
        "pointsman.decision_id": answer.headers["x-pointsman-decision-id"],
        "pointsman.policy": "explicit",
        "pointsman.cost_usd": pytest.approx(1.4e-5),
    }
    found = attributes(server)
    assert {name: found[name] for name in wanted} == wanted
    assert "error.type" not in found


def test_a_fallback_is_an_event_and_an_error_on_the_call_that_failed(
    traced: Traced, provider: FakeProvider
) -> None:
    provider.otherwise = Reply(status=500)
    assert traced.served.ask().headers["x-pointsman-expert"] == "second"
    failed, answered = traced.spans(SpanKind.CLIENT)[0], traced.spans(SpanKind.CLIENT)[-1]
    assert attributes(failed)["error.type"] == "unavailable"
    assert failed.status.status_code is StatusCode.ERROR
    assert answered.name == "chat model-two"
    events = [(event.name, dict(event.attributes or {})) for event in traced.server.events]
    assert ("pointsman.fallback", {"pointsman.expert": "second"}) in events
    assert traced.server.status.status_code is StatusCode.UNSET


def test_a_request_that_failed_says_so(traced: Traced, provider: FakeProvider) -> None:
    provider.otherwise = Reply(status=500)
    assert traced.served.ask("first").status_code == 502
    assert attributes(traced.server)["error.type"] == "upstream_unavailable"
    assert attributes(traced.server)["http.response.status_code"] == 502
    assert traced.server.status.status_code is StatusCode.ERROR


def test_a_refused_request_has_a_span_and_is_no_error_of_ours(traced: Traced) -> None:
    traced.served.client.post("/v1/chat/completions", content=b"{")
    assert attributes(traced.server)["http.response.status_code"] == 400
    assert traced.server.status.status_code is StatusCode.UNSET
    assert traced.spans(SpanKind.CLIENT) == []


def test_the_clients_trace_goes_on_behind_us(traced: Traced, provider: FakeProvider) -> None:
    body = {"model": "first", "messages": [{"role": "user", "content": "Hi"}]}
    headers = {"traceparent": PARENT, "tracestate": "vendor=1"}
    traced.served.client.post("/v1/chat/completions", json=body, headers=headers)
    server, (client,) = traced.server, traced.spans(SpanKind.CLIENT)
    assert server.parent is not None
    assert f"{server.parent.span_id:016x}" == "b7ad6b7169203331"
    version, trace_id, span_id, flags = provider.headers[-1]["traceparent"].split("-")
    assert (version, trace_id, flags) == ("00", "0af7651916cd43dd8448eb211c80319c", "01")
    assert int(span_id, 16) == id_of(client)
    assert provider.headers[-1]["tracestate"] == "vendor=1"


@pytest.mark.parametrize(("given", "sent"), [(PARENT, PARENT), ("00-nonsense", None)])
def test_without_spans_the_clients_trace_is_passed_on(
    two: Any, provider: FakeProvider, given: str, sent: str | None
) -> None:
    body = {"model": "first", "messages": [{"role": "user", "content": "Hi"}]}
    two.client.post("/v1/chat/completions", json=body, headers={"traceparent": given})
    assert provider.headers[-1].get("traceparent") == sent


def test_prompts_and_answers_are_not_in_spans(traced: Traced) -> None:
    traced.served.ask("first", "the prompt itself")
    for span in traced.exporter.get_finished_spans():
        assert "the prompt itself" not in span.to_json()
        assert "Hello there" not in span.to_json()


def test_captured_content_is_redacted(two: Any, provider: FakeProvider) -> None:
    provider.otherwise = Reply("write to me@example.com about planted-secret")
    traced = Traced(two, captured=True)
    two.ask("first", "my key is sk-abcdefghijklmnop and planted-secret")
    found = attributes(traced.server)
    (asked,) = orjson.loads(found["gen_ai.input.messages"])
    assert asked["role"] == "user"
    assert asked["parts"][0]["content"] == "my key is [redacted] and [redacted]"
    (answered,) = orjson.loads(found["gen_ai.output.messages"])
    assert answered["parts"][0]["content"] == "write to [email] about [redacted]"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_metrics_carry_the_conventions_names(traced: Traced, stream: bool) -> None:
    traced.served.ask("first", stream=stream)
    metrics = traced.metrics()
    wanted = {
        "gen_ai.client.token.usage",
        "gen_ai.client.operation.duration",
        "gen_ai.server.request.duration",
    }
    streamed = {
        "gen_ai.client.operation.time_to_first_chunk",
        "gen_ai.server.time_to_first_token",
        "gen_ai.server.time_per_output_token",
    }
    assert set(metrics) == (wanted | streamed if stream else wanted)
    tokens = {
        p.attributes["gen_ai.token.type"]: p.sum for p in metrics["gen_ai.client.token.usage"]
    }
    assert tokens == {"input": 10, "output": 2}
    (duration,) = metrics["gen_ai.client.operation.duration"]
    assert duration.explicit_bounds[:3] == (0.01, 0.02, 0.04)
    assert duration.explicit_bounds[-1] == 81.92
    assert duration.attributes["gen_ai.provider.name"] == "openai"


def test_a_failed_calls_duration_carries_its_error(traced: Traced, provider: FakeProvider) -> None:
    provider.otherwise = Reply(status=400)
    traced.served.ask("first")
    (duration,) = traced.metrics()["gen_ai.client.operation.duration"]
    assert duration.attributes["error.type"] == "invalid_request"


def test_a_cancelled_call_is_no_error(traced: Traced, provider: FakeProvider) -> None:
    provider.otherwise = Reply("a b c", stall_after=1)
    body = {"model": "first", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
    with traced.served.client.stream("POST", "/v1/chat/completions", json=body) as answer:
        next(answer.iter_lines())
    assert provider.left.wait(30)
    traced.served.verified()
    (client,) = traced.spans(SpanKind.CLIENT)
    assert attributes(client)["error.type"] == "cancelled"
    assert client.status.status_code is StatusCode.UNSET
    assert [event.name for event in traced.server.events] == ["pointsman.cancelled"]


class Relay:
    """A composition of one: what its child says."""

    def __init__(self, child: Expert) -> None:
        self.card = ExpertCard("relay")
        self._child = child

    async def answer(self, request: ChatRequest, call: Call) -> AsyncGenerator[Event, None]:
        async with aclosing(call.run(self._child, request)) as events:
            async for event in events:
                yield event

    async def aclose(self) -> None:
        await self._child.aclose()


def test_a_composition_is_the_parent_of_its_children(
    serve: Serve, remote: Remote, provider: FakeProvider
) -> None:
    traced = Traced(serve({"relay": Relay(remote("first", provider.url))}))
    traced.served.ask("relay")
    child, parent = traced.spans(SpanKind.CLIENT)
    assert attributes(child)["pointsman.expert"] == "first"
    assert child.parent is not None
    assert child.parent.span_id == id_of(parent)
    tokens = traced.metrics()["gen_ai.client.token.usage"]
    assert sum(point.sum for point in tokens) == 12


def test_our_names_are_the_conventions_names(traced: Traced) -> None:
    traced.served.ask("first", stream=True)
    known = {v for k, v in vars(gen_ai_attributes).items() if k.isupper() and isinstance(v, str)}
    used = {name for span in traced.exporter.get_finished_spans() for name in attributes(span)}
    assert {name for name in used if name.startswith("gen_ai.")} <= known
    names = {v for k, v in vars(gen_ai_metrics).items() if k.isupper() and isinstance(v, str)}
    assert set(traced.metrics()) <= names


@pytest.mark.parametrize(
    ("entry", "model"),
    [
        ({"base_url": "https://api.openai.com/v1"}, Model("openai", "a", "api.openai.com", 443)),
        (
            {"base_url": "https://me.openai.azure.com/v1", "model": "m"},
            Model("azure.ai.openai", "m", "me.openai.azure.com", 443),
        ),
        ({"base_url": "http://127.0.0.1:8001/v1"}, Model("openai", "a", "127.0.0.1", 8001)),
        (
            {"base_url": "http://10.0.0.1/v1", "kind": "anthropic"},
            Model("anthropic", "a", "10.0.0.1", 80),
        ),
        ({"kind": "calculator"}, Model("pointsman", "a")),
    ],
)
def test_providers_are_called_as_the_conventions_call_them(
    entry: dict[str, Any], model: Model
) -> None:
    settings = Settings.model_validate({"experts": [{"id": "a", **entry}]})
    assert model_of(settings.experts[0]) == model


def test_experts_that_are_gone_are_still_known_to_requests_under_way() -> None:
    content = Content(captured=False, redactor=Redactor())
    meters = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    tracing = Tracing(TracerProvider(shutdown_on_exit=False), meters, MODELS, content)
    other = Model("openai", "model-three", "three.example", 443)
    tracing.learn({"second": other, "third": other})
    assert tracing.models == {"first": MODELS["first"], "second": other, "third": other}
