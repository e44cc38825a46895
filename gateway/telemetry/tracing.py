"""Spans and OpenTelemetry's metrics of requests, for whoever turned them on.

A server span per request, below it a client span per call of an expert, below a composition's the
spans of its children. Nothing here waits: spans end in the SDK's bounded queue, and an exporter
that fails or is slow loses spans, never requests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from opentelemetry import metrics, trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from experts.messages import Usage
from gateway.ask import Ask
from gateway.ledger.rows import redacted
from gateway.telemetry import semconv
from gateway.telemetry.redaction import Redactor
from gateway.telemetry.semconv import Attributes, Model
from routers.records import Decision

if TYPE_CHECKING:
    from gateway.booking import Attempt, Booking

Timing = tuple[float, float | None, float | None]
"""Seconds of a request: all of it, until its first token, and from token to token of a stream."""

_SCOPE = "pointsman"
_UNKNOWN = Model("_OTHER", "none")
_CONTEXT = ("traceparent", "tracestate")
_PROPAGATOR = TraceContextTextMapPropagator()


@dataclass(frozen=True, slots=True)
class Content:
    """Whether prompts and answers are shown, and what is taken out of them."""

    captured: bool
    redactor: Redactor

    def clean(self, text: str) -> str:
        """Without secrets, e-mail addresses and long numbers."""
        return redacted(self.redactor.text(text))


class Tracing:
    """Starts a `Trace` for each request.

    Args:
        tracers: Where spans come from.
        meters: Where OpenTelemetry's own metrics come from.
        models: What each expert is to the outside.
        content: What becomes of prompts and answers.
        close: Sends what is left and stops; may take seconds.
    """

    def __init__(
        self,
        tracers: trace.TracerProvider,
        meters: metrics.MeterProvider,
        models: Mapping[str, Model],
        content: Content,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self.tracer = tracers.get_tracer(_SCOPE)
        self.models = models
        self.content = content
        self.close = close
        meter = meters.get_meter(_SCOPE)

        def histogram(name: str, unit: str, bounds: tuple[float, ...]) -> metrics.Histogram:
            return meter.create_histogram(
                f"gen_ai.{name}", unit, explicit_bucket_boundaries_advisory=list(bounds)
            )

        self.tokens = histogram("client.token.usage", "{token}", semconv.TOKENS)
        self.calls = histogram("client.operation.duration", "s", semconv.DURATIONS)
        self.first_chunk = histogram(
            "client.operation.time_to_first_chunk", "s", semconv.FIRST_TOKENS
        )
        self.requests = histogram("server.request.duration", "s", semconv.DURATIONS)
        self.first_token = histogram("server.time_to_first_token", "s", semconv.FIRST_TOKENS)
        self.per_token = histogram("server.time_per_output_token", "s", semconv.PER_TOKEN)

    def learn(self, models: Mapping[str, Model]) -> None:
        """Know more experts; those that are gone may still have requests under way."""
        self.models = {**self.models, **models}

    def begin(self, wire: str, path: str, headers: Mapping[str, str]) -> Trace:
        """A request has come; its span is a child of the client's, if it named one."""
        given = {name: value for name in _CONTEXT if (value := headers.get(name)) is not None}
        parent = _PROPAGATOR.extract(given)
        operation = semconv.operation_of(wire)
        attributes: Attributes = {
            "http.request.method": "POST",
            "http.route": path,
            "url.path": path,
            semconv.OPERATION: operation,
        }
        span = self.tracer.start_span(f"POST {path}".rstrip(), parent, SpanKind.SERVER, attributes)
        return Trace(self, span, operation)


class Trace:
    """The spans of one request."""

    __slots__ = ("_ask", "_operation", "_server", "_spans", "_tracing")

    def __init__(self, tracing: Tracing, server: Span, operation: str) -> None:
        self._tracing = tracing
        self._server = server
        self._operation = operation
        self._spans: dict[str, Span] = {}
        self._ask: Ask | None = None

    def asked(self, ask: Ask) -> None:
        self._ask = ask

    def decided(self, decision: Decision) -> None:
        content, ask = self._tracing.content, self._ask
        if content.captured and ask is not None:
            # Not before: what a guard refuses or takes out is not shown.
            said = [(m.role, content.clean(m.text)) for m in ask.request.messages]
            self._server.set_attribute(semconv.INPUT_MESSAGES, semconv.messages_json(said))
        self._server.set_attributes(
            {
                "pointsman.router": decision.router,
                "pointsman.router.version": decision.version,
                "pointsman.policy": decision.policy,
                "pointsman.chosen": decision.expert,
                "pointsman.propensity": decision.propensity,
                "pointsman.flags": list(decision.flags),
            }
        )

    def attempt_began(self, attempt: Attempt, reason: str | None) -> dict[str, str]:
        """Open its span.

        Args:
            attempt: The call.
            reason: Why it is not the first one: `retry`, `fallback` or `hedge`.

        Returns:
            Headers that tell the expert whose child it is.
        """
        expert = attempt.card.expert_id
        model = self._model(expert)
        attributes = model.attributes(self._operation)
        attributes["pointsman.expert"] = expert
        attributes["pointsman.attempt_id"] = attempt.attempt_id
        if self._ask is not None:
            session = self._ask.wishes.session
            attributes |= semconv.request_attributes(self._ask.request, session)
        parent = self._spans.get(attempt.parent_id or "", self._server)
        if reason is not None:
            self._server.add_event(f"pointsman.{reason}", {"pointsman.expert": expert})
        context = trace.set_span_in_context(parent)
        name = f"{self._operation} {model.name}"
        span = self._tracing.tracer.start_span(name, context, SpanKind.CLIENT, attributes)
        self._spans[attempt.attempt_id] = span
        headers: dict[str, str] = {}
        _PROPAGATOR.inject(headers, trace.set_span_in_context(span))
        return headers

    def attempt_ended(
        self, attempt: Attempt, status: str, error_kind: str | None, seconds: float
    ) -> None:
        span = self._spans.pop(attempt.attempt_id, None)
        if span is None:
            return
        attributes: Attributes = {"pointsman.status": status}
        if attempt.finish_reason is not None:
            attributes[semconv.FINISH_REASONS] = [attempt.finish_reason]
        if attempt.usage is not None:
            attributes |= semconv.usage_attributes(attempt.usage)
        streamed = self._ask is not None and self._ask.request.stream
        if streamed and attempt.first_token_s is not None:
            attributes[semconv.FIRST_CHUNK] = attempt.first_token_s
        failed = error_kind or (None if status == "ok" else status)
        if failed is not None:
            attributes[semconv.ERROR_TYPE] = failed
            if status == "cancelled":
                # One that lost, or whose client left: nothing is wrong with the expert.
                self._server.add_event(
                    "pointsman.cancelled", {"pointsman.expert": attempt.card.expert_id}
                )
            else:
                span.set_status(Status(StatusCode.ERROR, failed))
        span.set_attributes(attributes)
        span.end()
        self._measure(attempt, failed, seconds, streamed=streamed)

    def _measure(
        self, attempt: Attempt, failed: str | None, seconds: float, *, streamed: bool
    ) -> None:
        tracing = self._tracing
        labels = self._model(attempt.card.expert_id).attributes(self._operation)
        if attempt.usage is not None and not attempt.has_children:
            for kind, count in _by_type(attempt.usage):
                tracing.tokens.record(count, {**labels, semconv.TOKEN_TYPE: kind})
        if failed is not None:
            labels[semconv.ERROR_TYPE] = failed
        elif streamed and attempt.first_token_s is not None:
            tracing.first_chunk.record(attempt.first_token_s, labels)
        tracing.calls.record(seconds, labels)

    def ended(
        self,
        status: int,
        error_kind: str | None,
        expert: str,
        booking: Booking | None,
        answer: str,
        timing: Timing,
    ) -> None:
        """Close the server's span and count the request."""
        total_s, first_token_s, per_token_s = timing
        model, tracing, server = self._model(expert), self._tracing, self._server
        attributes: Attributes = {
            "http.response.status_code": status,
            "pointsman.expert": expert,
            semconv.RESPONSE_MODEL: model.name,
        }
        if self._ask is not None:
            attributes[semconv.REQUEST_MODEL] = tracing.content.clean(self._ask.model[:100])
            attributes["pointsman.key"] = self._ask.key.name
        if booking is not None:
            attributes["pointsman.decision_id"] = booking.decision_id
            attributes["pointsman.attempts"] = booking.attempts
            attributes["pointsman.cost_usd"] = booking.cost_usd
            if booking.usage is not None:
                attributes |= semconv.usage_attributes(booking.usage)
        if tracing.content.captured and answer:
            said = [("assistant", tracing.content.clean(answer))]
            attributes[semconv.OUTPUT_MESSAGES] = semconv.messages_json(said, "stop")
        if error_kind is not None:
            attributes[semconv.ERROR_TYPE] = error_kind
            if status >= 500:
                server.set_status(Status(StatusCode.ERROR, error_kind))
        server.set_attributes(attributes)
        server.end()
        labels = model.attributes(self._operation)
        streamed = self._ask is not None and self._ask.request.stream
        if streamed and first_token_s is not None and error_kind is None:
            tracing.first_token.record(first_token_s, labels)
        if per_token_s is not None and error_kind is None:
            tracing.per_token.record(per_token_s, labels)
        if error_kind is not None:
            labels[semconv.ERROR_TYPE] = error_kind
        tracing.requests.record(total_s, labels)

    def _model(self, expert: str) -> Model:
        return self._tracing.models.get(expert, _UNKNOWN)


def _by_type(usage: Usage) -> tuple[tuple[str, int], tuple[str, int]]:
    return (("input", usage.prompt_tokens), ("output", usage.completion_tokens))
