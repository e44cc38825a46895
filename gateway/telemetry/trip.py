"""One request as it is observed on its way. Every call is cheap, never waits and never fails.

The ordinary path and the fast one make the same calls, most of them through `Booking`:
`begin`, `asked`, `admitted`, `decided`, (`recorded`, `attempt_began`, `attempt_ended`)*, `end`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import anyio

from experts.cards import NANO_PER_USD
from experts.messages import Usage
from gateway.ask import Ask
from gateway.errors import ApiError
from gateway.telemetry.access_log import AccessLog
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.redaction import Redactor
from gateway.telemetry.request_id import request_id_from
from routers.records import Decision

if TYPE_CHECKING:
    from gateway.booking import Attempt, Booking
    from gateway.telemetry.tracing import Trace, Tracing


NOBODY = "none"
NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_LOOP_CHECK_S = 0.25
_KIND = re.compile(r"[a-z][a-z0-9_]{0,47}")


class Telemetry:
    """Where everything that happens is made visible.

    Args:
        metrics: Figures for Prometheus.
        redactor: Keeps secrets out of whatever is said.
        access: Writes a line per request.
        tracing: Makes spans, if anybody wants them.
        key_labels: Whether names of keys become labels.
    """

    def __init__(
        self,
        metrics: Metrics,
        redactor: Redactor,
        access: AccessLog,
        tracing: Tracing | None = None,
        *,
        key_labels: bool = False,
    ) -> None:
        self.metrics = metrics
        self.redactor = redactor
        self.access = access
        self.tracing = tracing
        self.key_labels = key_labels

    def begin(
        self,
        wire: str,
        headers: Mapping[str, str],
        request_id: str | None = None,
        path: str = "",
    ) -> Trip:
        """A request has come; `headers` by lower-case name."""
        trip = Trip(self, wire, request_id or request_id_from(None))
        if self.tracing is not None:
            trip.trace = self.tracing.begin(wire, path, headers)
        elif _TRACEPARENT.fullmatch(given := headers.get("traceparent", "")):
            # Who makes no spans still must not break the chain of those who do.
            trip.upstream_headers = {"traceparent": given}
        return trip

    async def close(self) -> None:
        """Send the spans that are left, if somebody takes them."""
        if self.tracing is not None:
            await anyio.to_thread.run_sync(self.tracing.close)

    def clean(self, failure: ApiError) -> ApiError:
        """The same error without secrets: a provider's own words often quote a key."""
        message = self.redactor.text(failure.message)
        code = failure.code and self.redactor.text(failure.code)
        param = failure.param and self.redactor.text(failure.param)
        return ApiError(
            failure.status,
            message,
            type=failure.type,
            code=code,
            param=param,
            headers=failure.headers,
        )

    async def watch_loop(self) -> None:
        """Measure how late the event loop wakes up, for ever."""
        while True:
            due = time.monotonic() + _LOOP_CHECK_S
            await anyio.sleep(_LOOP_CHECK_S)
            self.metrics.loop_lag.observe((), max(0.0, time.monotonic() - due))


class Trip:
    """One request. Times are seconds on `time.monotonic`.

    Attributes:
        request_id: What the client knows it by.
        upstream_s: How long at least one expert was at work so far.
        first_token_s: From the request's begin to the answer's first token, once it is there.
        booking: The books of a request that failed, if it came so far.
        last: Who was called last.
    """

    __slots__ = (
        "_ended", "_open", "_since", "_telemetry", "admit_s", "ask", "began", "booking",
        "decide_s", "decision", "ended", "first_token_s", "last", "ledger_s", "request_id",
        "trace", "upstream_headers", "upstream_s", "wire",
    )  # fmt: skip

    def __init__(self, telemetry: Telemetry, wire: str, request_id: str) -> None:
        self.began = self.ended = time.monotonic()
        self.wire = wire
        self.request_id = request_id
        self.ask: Ask | None = None
        self.decision: Decision | None = None
        self.booking: Booking | None = None
        self.admit_s = self.decide_s = self.ledger_s = self.upstream_s = 0.0
        self.first_token_s: float | None = None
        self.trace: Trace | None = None
        self.upstream_headers: Mapping[str, str] = NO_HEADERS
        self._telemetry = telemetry
        self._ended = False
        self._open = 0
        self._since = 0.0
        self.last: str | None = None
        telemetry.metrics.in_flight += 1

    def _upstream_until(self, now: float) -> float:
        return self.upstream_s + (now - self._since if self._open else 0.0)

    def asked(self, ask: Ask) -> None:
        """The request is understood and its key is known."""
        self.ask = ask
        if self.trace is not None:
            self.trace.asked(ask)

    def admitted(self) -> None:
        """It passed every limit; the decision comes next."""
        self.admit_s = time.monotonic() - self.began

    def decided(self, decision: Decision, decide_s: float | None = None) -> None:
        """It is known who answers; `decide_s` if that was not only just found out."""
        self.decision = decision
        if decide_s is None:
            decide_s = time.monotonic() - self.began - self.admit_s
        self.decide_s = decide_s
        metrics = self._telemetry.metrics
        decisions, decide = metrics.of_decision(decision.router, decision.policy, decision.expert)
        decisions.value += 1
        decide.observe(self.decide_s)
        for flag in decision.flags:
            metrics.flags.add((flag,))
        if self.trace is not None:
            self.trace.decided(decision)

    def recorded(self, seconds: float) -> None:
        """The ledger was waited for."""
        if not self._open:
            self.ledger_s += seconds

    def attempt_began(self, attempt: Attempt) -> None:
        """An expert is about to be called, with `attempt.headers`."""
        running, expert = self._telemetry.metrics.running, attempt.card.expert_id
        running[expert] = running.get(expert, 0) + 1
        attempt.begun = True
        reason = None
        if attempt.parent_id is None:
            if self.last is not None:
                reason = self._why_again(expert)
            if not self._open:
                self._since = attempt.started
            self.last = expert
            self._open += 1
        if self.trace is not None:
            attempt.headers = self.trace.attempt_began(attempt, reason)
        else:
            attempt.headers = self.upstream_headers

    def _why_again(self, expert: str) -> str:
        """Why a call is made that is not the first."""
        metrics = self._telemetry.metrics
        if self._open:
            reason, counter = "hedge", metrics.hedges
        elif self.last == expert:
            reason, counter = "retry", metrics.retries
        else:
            reason, counter = "fallback", metrics.fallbacks
        counter.add((expert,))
        return reason

    def attempt_ended(
        self, attempt: Attempt, status: str, error_kind: str | None, cost_nanousd: int | None
    ) -> None:
        """A call ended; `status` as the ledger has it, the cost None when it is not known."""
        expert, metrics = attempt.card.expert_id, self._telemetry.metrics
        now = time.monotonic()
        attempts, latency = metrics.of_attempt(expert, status)
        attempts.value += 1
        latency.observe(now - attempt.started)
        if error_kind is not None:
            metrics.attempt_errors.add((expert, error_kind))
        # The tokens of a composition are those of its children.
        if attempt.usage is not None and not attempt.has_children:
            self._count_tokens(expert, attempt.usage)
        if cost_nanousd:
            metrics.cost.add((expert,), cost_nanousd / NANO_PER_USD)
            if status != "ok":
                metrics.wasted.add((expert,), cost_nanousd / NANO_PER_USD)
        # One that was announced and never made was not open.
        if attempt.begun:
            attempt.begun = False
            metrics.running[expert] -= 1
            if attempt.parent_id is None:
                self._closed(attempt, now)
        if self.trace is not None:
            self.trace.attempt_ended(attempt, status, error_kind, now - attempt.started)

    def _closed(self, attempt: Attempt, now: float) -> None:
        if attempt.first_token_s is not None:
            self.first_token_s = attempt.started + attempt.first_token_s - self.began
        self._open -= 1
        if not self._open:
            self.upstream_s += now - self._since

    def _count_tokens(self, expert: str, usage: Usage) -> None:
        metrics = self._telemetry.metrics
        read, written = metrics.of_tokens(expert)
        read.value += usage.input
        written.value += usage.output
        if usage.cache_read:
            metrics.tokens.add((expert, "cache_read"), usage.cache_read)
        if usage.cache_write:
            metrics.tokens.add((expert, "cache_write"), usage.cache_write)
        if usage.reasoning:
            metrics.tokens.add((expert, "reasoning"), usage.reasoning)

    def end(
        self,
        status: int,
        error_kind: str | None = None,
        answered_by: str | None = None,
        booking: Booking | None = None,
        answer: str = "",
    ) -> None:
        """The request is over; later calls change nothing.

        Args:
            status: HTTP status; 499 when the client left.
            error_kind: Short name of what went wrong, None if nothing did.
            answered_by: Whose answer the client got, if anyone's.
            booking: Its books, if it got so far.
            answer: The text of the answer.
        """
        if self._ended:
            return
        self._ended = True
        now = self.ended = time.monotonic()
        metrics = self._telemetry.metrics
        metrics.in_flight -= 1
        if self._open:
            self.upstream_s, self._since = self._upstream_until(now), now
        expert = answered_by or NOBODY
        policy = NOBODY if self.decision is None else self.decision.policy
        streamed = self.ask is not None and self.ask.request.stream
        requests, latency, overhead = metrics.of_request(
            self.wire, expert, policy, status, streamed
        )
        requests.value += 1
        latency.observe(now - self.began)
        overhead.observe(now - self.began - self.upstream_s)
        if error_kind is not None:
            # A provider's error code may become a label; it may also be any text at all.
            error_kind = error_kind if _KIND.fullmatch(error_kind) else "other"
            metrics.errors.add((self.wire, error_kind))
            if self.decision is None:
                metrics.refusals.add((error_kind,))
        per_token_s = self._per_token_s(booking) if streamed else None
        if streamed and self.first_token_s is not None:
            metrics.first_token.observe((expert,), self.first_token_s)
        if per_token_s is not None:
            metrics.per_token.observe((expert,), per_token_s)
        if booking is not None:
            self._count_books(booking, status)
            self.booking = booking if status != 200 else None
        if self.trace is not None:
            timing = (now - self.began, self.first_token_s, per_token_s)
            self.trace.ended(status, error_kind, expert, booking, answer, timing)
        self._telemetry.access.write(self, status, error_kind, expert, booking)

    def _per_token_s(self, booking: Booking | None) -> float | None:
        """Between two tokens of a stream, on average; None when nobody can tell."""
        if booking is None or booking.usage is None or self.first_token_s is None:
            return None
        gaps = booking.usage.completion_tokens - 1
        return (self.ended - self.began - self.first_token_s) / gaps if gaps > 0 else None

    def _count_books(self, booking: Booking, status: int) -> None:
        metrics = self._telemetry.metrics
        if not booking.cost_complete:
            metrics.unpriced.add()
        elif status == 200 and booking.attempts and not booking.cost_nanousd:
            metrics.free.add()
        if self._telemetry.key_labels and self.ask is not None:
            key = (self.ask.key.name,)
            metrics.key_requests.add(key)
            metrics.key_cost.add(key, booking.cost_usd)

    def server_timing(self) -> str:
        """The `Server-Timing` header: milliseconds spent so far, by phase.

        `overhead` is all but `upstream`, so it holds the three before it.
        """
        now = time.monotonic()
        upstream = self._upstream_until(now)
        return (
            f"admit;dur={self.admit_s * 1e3:.3f}, decide;dur={self.decide_s * 1e3:.3f}, "
            f"ledger;dur={self.ledger_s * 1e3:.3f}, upstream;dur={upstream * 1e3:.3f}, "
            f"overhead;dur={(now - self.began - upstream) * 1e3:.3f}"
        )

    def redacted(self, text: str) -> str:
        """`text` fit for the ledger and for clients."""
        return self._telemetry.redactor.text(text)


UNSEEN = Telemetry(Metrics(), Redactor(), AccessLog(0))
"""For work that no gateway watches, e.g. of a test or a script."""
