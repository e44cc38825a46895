"""Prometheus figures of one gateway process."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from experts.cards import NANO_PER_USD
from gateway.ask import Ask
from gateway.booking import Booking
from gateway.ledger.store import Ledger

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """Counters and histograms with bounded label values: ids of experts, never of requests."""

    def __init__(self, ledger: Ledger) -> None:
        self._registry = CollectorRegistry()
        self.requests = self._counter(
            "pointsman_requests", "Requests by answering expert and status.", ["expert", "status"]
        )
        self.cost = self._counter(
            "pointsman_cost_usd", "Dollars spent, wasted attempts included.", ["expert"]
        )
        self.attempts = self._counter("pointsman_attempts", "Upstream calls.", [])
        self.unpriced = self._counter(
            "pointsman_unpriced_requests", "Requests whose whole cost is not known.", []
        )
        self.feedback = self._counter("pointsman_outcomes", "Scores booked.", ["source"])
        self.cache_lookups = self._counter(
            "pointsman_cache_lookups", "Requests that the cache could answer.", ["result"]
        )
        self.cache_saved = self._counter(
            "pointsman_cache_saved_usd", "Dollars that answers given again would have cost.", []
        )
        self.latency = Histogram(
            "pointsman_request_seconds",
            "Seconds from parsed request to closed books.",
            ["stream"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.decide = Histogram(
            "pointsman_decide_seconds",
            "Seconds a decision took.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.in_flight = 0
        self._gauge("pointsman_requests_in_flight", "Requests being answered.").set_function(
            lambda: self.in_flight
        )
        self._gauge("pointsman_ledger_pending_rows", "Rows not yet on disk.").set_function(
            lambda: ledger.pending
        )

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, registry=self._registry)

    def _counter(self, name: str, text: str, labels: list[str]) -> Counter:
        return Counter(name, text, labels, registry=self._registry)

    def watch_cache(
        self, size: Callable[[], int], entries: Callable[[], int], waiting: Callable[[], int]
    ) -> None:
        """Show what the cache holds, and who waits for what it will hold."""
        self._gauge("pointsman_cache_bytes", "Bytes of kept answers.").set_function(size)
        self._gauge("pointsman_cache_entries", "Kept answers.").set_function(entries)
        self._gauge(
            "pointsman_cache_waiting", "Requests waiting for the answer to the same request."
        ).set_function(waiting)

    def cache_hit(self, kind: str, saved_nanousd: int | None) -> None:
        """Count an answer given again."""
        self.cache_lookups.labels(kind).inc()
        self.cache_saved.inc((saved_nanousd or 0) / NANO_PER_USD)

    def begin(self) -> None:
        """Count a request that is being answered from now on."""
        self.in_flight += 1

    def observe(self, ask: Ask, booking: Booking, answered_by: str | None, status: int) -> None:
        """Count one finished request."""
        self.in_flight -= 1
        expert = answered_by or "none"
        self.requests.labels(expert, str(status)).inc()
        self.cost.labels(expert).inc(booking.cost_nanousd / NANO_PER_USD)
        self.attempts.inc(booking.attempts)
        if not booking.cost_complete:
            self.unpriced.inc()
        self.latency.labels(str(ask.request.stream).lower()).observe(booking.latency_s)

    def text(self) -> bytes:
        """Everything in Prometheus's text format."""
        return generate_latest(self._registry)
