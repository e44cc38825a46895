"""The figures of one gateway process under our names, for Prometheus.

Label values are bounded: experts, routers, policies and wire formats come from the configuration,
kinds of errors from a table. What clients write never becomes a label; names of keys do only if
`telemetry.key_labels` says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import anyio
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from experts.cards import NANO_PER_USD
from gateway.telemetry.series import MAX_SERIES, Buckets, Counter, Gauge, Histogram, Sum
from gateway.telemetry.tally import Kind, Tally
from gateway.telemetry.workers import COPY_EVERY_S, SharedFigures

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_SHORT = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
_PER_TOKEN = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.5, 1.0)


class Metrics:
    """Every figure; whoever has something to count adds to the one that is meant for it.

    Attributes:
        of_decision: What a decision is counted with, by router, policy and expert.
        of_attempt: What the end of a call is counted with, by expert and status.
        of_tokens: What read and written tokens are counted with, by expert.
        of_request: What a request is counted with, by wire, expert, policy, status, streamed.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self.running: dict[str, int] = {}
        self._all: list[Counter | Histogram] = []
        self._gauges: dict[str, Gauge] = {}
        self._shared: SharedFigures | None = None
        self._tallies: dict[Kind, Tally] = {}
        self._requests()
        self._attempts()
        self._decisions()
        # Found without a step of Python's: every request asks for each of them.
        self.of_decision = lru_cache(MAX_SERIES)(self._of_decision)
        self.of_attempt = lru_cache(MAX_SERIES)(self._of_attempt)
        self.of_tokens = lru_cache(MAX_SERIES)(self._of_tokens)
        self.of_request = lru_cache(MAX_SERIES)(self._of_request)
        self.loop_lag = self._histogram(
            "event_loop_lag_seconds", "How late the event loop wakes up.", bounds=_SHORT
        )
        self.gauge("requests_in_flight", "Requests being answered.", lambda: self.in_flight)
        self.gauge("tasks", "Tasks of the event loop.", lambda: len(asyncio.all_tasks()))
        self.gauge(
            "attempts_in_flight", "Upstream calls going on.", lambda: dict(self.running), "expert"
        )
        self.outcomes = self._counter("outcomes", "Scores booked.", "source")
        self.guard_actions = self._counter(
            "guard_actions", "Requests that a guard acted on.", "guard", "side", "action"
        )
        self.cache_lookups = self._counter(
            "cache_lookups", "Requests that the cache could answer.", "result"
        )
        self.cache_saved = self._counter(
            "cache_saved_usd", "Dollars that answers given again would have cost."
        )

    def _requests(self) -> None:
        self.requests = self._counter(
            "requests", "Requests by how they ended.", "wire", "expert", "policy", "status"
        )
        self.errors = self._counter("errors", "Requests that failed.", "wire", "kind")
        self.refusals = self._counter("refusals", "Requests refused before a decision.", "kind")
        self.latency = self._histogram(
            "request_seconds", "From request to closed books.", "expert", "stream", bounds=_SECONDS
        )
        self.first_token = self._histogram(
            "first_token_seconds", "From request to first token.", "expert", bounds=_SECONDS
        )
        self.per_token = self._histogram(
            "token_seconds", "Between two tokens of a stream.", "expert", bounds=_PER_TOKEN
        )
        self.overhead = self._histogram(
            "overhead_seconds",
            "Part of a request in which no expert was at work.",
            "stream",
            bounds=_SHORT,
        )
        self.unpriced = self._counter(
            "unpriced_requests", "Answered requests whose whole cost is not known."
        )
        self.free = self._counter(
            "zero_cost_requests", "Answered requests with a known cost of nothing."
        )
        self.key_requests = self._counter("key_requests", "Requests by key.", "key")
        self.key_cost = self._counter("key_cost_usd", "Dollars spent by key.", "key")

    def _attempts(self) -> None:
        self.attempts = self._counter("attempts", "Upstream calls.", "expert", "status")
        self.attempt_errors = self._counter(
            "attempt_errors", "Upstream calls that failed.", "expert", "kind"
        )
        self.attempt_latency = self._histogram(
            "attempt_seconds", "Duration of upstream calls.", "expert", bounds=_SECONDS
        )
        self.tokens = self._counter("tokens", "Tokens, in disjoint parts.", "expert", "kind")
        self.cost = self._counter("cost_usd", "Dollars spent, waste included.", "expert")
        self.wasted = self._counter(
            "wasted_cost_usd", "Dollars spent on answers that were not delivered.", "expert"
        )
        self.retries = self._counter("retries", "Calls of the same expert again.", "expert")
        self.fallbacks = self._counter("fallbacks", "Calls of the next expert.", "expert")
        self.hedges = self._counter("hedges", "Calls beside one that goes on.", "expert")

    def _decisions(self) -> None:
        self.decide = self._histogram(
            "decide_seconds", "Duration of decisions.", "router", bounds=_SHORT
        )
        self.decisions = self._counter(
            "decisions", "Decisions by who was chosen.", "router", "policy", "expert"
        )
        self.flags = self._counter(
            "decision_flags", "Decisions that were out of the ordinary.", "flag"
        )

    def _of_decision(self, router: str, policy: str, expert: str) -> tuple[Sum, Buckets]:
        return self.decisions.cell((router, policy, expert)), self.decide.cell((router,))

    def _of_attempt(self, expert: str, status: str) -> tuple[Sum, Buckets]:
        return self.attempts.cell((expert, status)), self.attempt_latency.cell((expert,))

    def _of_tokens(self, expert: str) -> tuple[Sum, Sum]:
        return self.tokens.cell((expert, "input")), self.tokens.cell((expert, "output"))

    def _of_request(
        self, wire: str, expert: str, policy: str, status: int, streamed: bool
    ) -> tuple[Sum, Buckets, Buckets]:
        stream = "true" if streamed else "false"
        return (
            self.requests.cell((wire, expert, policy, str(status))),
            self.latency.cell((expert, stream)),
            self.overhead.cell((stream,)),
        )

    def tally(self, kind: Kind) -> Tally:
        """What requests of this kind are noted with; the same one until it is added up."""
        found = self._tallies.get(kind)
        if found is None:
            found = self._tallies[kind] = Tally(self, kind)
        return found

    def gauge(
        self,
        name: str,
        text: str,
        read: Callable[[], float | Mapping[str, float]],
        label: str | None = None,
        *,
        grows: bool = False,
    ) -> None:
        """Show a value that somebody else keeps, see `Gauge`; the last one of a name counts."""
        self._gauges[name] = Gauge(f"pointsman_{name}", text, read, label, grows=grows)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        counter = Counter(f"pointsman_{name}", text, labels)
        self._all.append(counter)
        return counter

    def _histogram(self, name: str, text: str, *labels: str, bounds: Sequence[float]) -> Histogram:
        histogram = Histogram(f"pointsman_{name}", text, labels, bounds=bounds)
        self._all.append(histogram)
        return histogram

    def cache_hit(self, kind: str, saved_nanousd: int | None) -> None:
        """Count an answer given again."""
        self.cache_lookups.add((kind,))
        self.cache_saved.add((), (saved_nanousd or 0) / NANO_PER_USD)

    def watch_cache(
        self, size: Callable[[], int], entries: Callable[[], int], waiting: Callable[[], int]
    ) -> None:
        """Show what the cache holds, and who waits for what it will hold."""
        self.gauge("cache_bytes", "Bytes of kept answers.", size)
        self.gauge("cache_entries", "Kept answers.", entries)
        self.gauge("cache_waiting", "Requests waiting for the answer to the same request.", waiting)

    def share(self, directory: Path) -> None:
        """From now on answer for the other processes that share `directory` too."""
        self._shared = SharedFigures(directory)

    async def leave_copies(self) -> None:
        """Tell the other processes, for ever; nothing to do when there are none."""
        while self._shared is not None:
            await anyio.to_thread.run_sync(_leave, self._frozen(), self._shared)
            await anyio.sleep(COPY_EVERY_S)

    async def text(self, whole: Iterable[Metric] = ()) -> bytes:
        """Everything in Prometheus's text format.

        Args:
            whole: What no other process has figures of.
        """
        # Thousands of series take tens of milliseconds to write out.
        return await anyio.to_thread.run_sync(_text, self._frozen(), self._shared, whole)

    def _frozen(self) -> list[Frozen]:
        for tally in self._tallies.values():
            tally.add_up()
        return [figure.frozen() for figure in (*self._all, *self._gauges.values())]


Frozen = Callable[[], Metric]


class _Page(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _families(figures: Sequence[Frozen]) -> Iterator[Metric]:
    for figure in figures:
        yield figure()
    # Memory, processor time and open files of this process.
    yield from ProcessCollector(registry=None).collect()


def _text(
    figures: Sequence[Frozen], shared: SharedFigures | None, whole: Iterable[Metric]
) -> bytes:
    families = _families(figures)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Page(families if shared is None else shared.merged(families)))
    registry.register(_Page(whole))
    return generate_latest(registry)


def _leave(figures: Sequence[Frozen], shared: SharedFigures) -> None:
    shared.leave(_families(figures))
