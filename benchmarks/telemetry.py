"""What it costs to watch a request: figures, the `Server-Timing` header, the access line.

`python benchmarks/telemetry.py` takes made-up requests through every call that a real one makes and
prints the CPU time that each variant takes of the event loop's thread, the median of some rounds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

import orjson
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from rich.console import Console
from rich.table import Table

from experts.cards import ExpertCard, Prices
from experts.messages import ChatRequest, Message, Usage
from gateway.access.keys import Key
from gateway.ask import Ask
from gateway.booking import Attempt, Booking
from gateway.ledger.rows import Row
from gateway.settings.logging import LoggingSettings
from gateway.telemetry.access_log import AccessLog, access_record
from gateway.telemetry.logs import JsonLines, Logs
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.redaction import Redactor
from gateway.telemetry.semconv import Model
from gateway.telemetry.tracing import Content, Tracing
from gateway.telemetry.trip import Telemetry, Trip
from routers.eligible import Constraints
from routers.policies.greedy import PRESETS
from routers.router import untrained_router

_CARD = ExpertCard("small", prices=Prices(1.0, 2.0))
_ASK = Ask(ChatRequest((Message("user", "Hi"),)), "small", "openai.chat", Key("k"))
_DECISION = untrained_router("default").decide(
    _ASK.request,
    [_CARD],
    preference=PRESETS["balanced"],
    policy_name="balanced",
    constraints=Constraints(),
    unhealthy={},
    uniform=0.5,
)


class _NoLedger:
    def append(self, rows: list[Row]) -> None:
        """Keeps nothing: the ledger's own cost is not measured here."""


def main() -> None:
    """Parse the command line, measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--requests", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args()
    with Path(os.devnull).open("w") as nowhere:
        costs = {
            name: _cost_us(step, args.requests, args.rounds)
            for name, step in variants(nowhere).items()
        }
    if args.json:
        Console().print_json(orjson.dumps(costs).decode())
        return
    table = Table("what", "µs per request")
    for name, cost in costs.items():
        table.add_row(name, f"{cost:.2f}")
    Console().print(table)


def variants(nowhere: TextIO) -> dict[str, Callable[[], object]]:
    """Every way to watch a request, by its name."""
    plain = Telemetry(Metrics(), Redactor(), AccessLog(0))
    logging = Telemetry(Metrics(), Redactor(), AccessLog(10**9))
    limited = Telemetry(Metrics(), Redactor(), AccessLog(1))
    trip = _watched(plain)
    redactor = Redactor(f"secret number {number}" for number in range(20))
    # Long enough to hold all lines of a round: a dropped line is a cheap one.
    logs = Logs(LoggingSettings(max_queue=10**7), redactor, nowhere)
    logs.start()
    form, record = JsonLines(redactor), access_record(trip, 200, None, "small", _BOOKING)
    traced = Telemetry(Metrics(), Redactor(), AccessLog(0), _tracing())
    return {
        "figures": lambda: _watched(plain),
        "figures and OpenTelemetry": lambda: _watched(traced),
        "figures and access line": lambda: _watched(logging),
        "figures and access line over the limit": lambda: _watched(limited),
        "writing an access line, in the writing thread": lambda: form.format(record),
        "Server-Timing": trip.server_timing,
    }


class _Nowhere(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Takes everything at once: the collector's own time is not measured here."""
        return SpanExportResult.SUCCESS


def _tracing() -> Tracing:
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(BatchSpanProcessor(_Nowhere()))
    meters = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    models = {"small": Model("openai", "small", "127.0.0.1", 8000)}
    return Tracing(tracers, meters, models, Content(False, Redactor()))


def _watched(telemetry: Telemetry) -> Trip:
    trip = telemetry.begin("openai.chat", {}, "req-1")
    trip.asked(_ASK)
    trip.admitted()
    trip.decided(_DECISION)
    trip.recorded(0.001)
    trip.attempt_began(_ATTEMPT)
    trip.attempt_ended(_ATTEMPT, "ok", None, 50_000)
    trip.end(200, None, "small", _BOOKING)
    return trip


_USAGE = Usage(input=10, output=20)
_ATTEMPT = Attempt("att-1", _CARD, None, time.monotonic())
_ATTEMPT.first_token_s, _ATTEMPT.usage = 0.001, _USAGE
_BOOKING = Booking(_NoLedger(), _ASK, _DECISION, "none")  # type: ignore[arg-type]
_BOOKING.usage = _USAGE


def _cost_us(step: Callable[[], object], requests: int, rounds: int) -> float:
    found: list[float] = []
    for _ in range(rounds):
        began = time.thread_time()
        for _ in range(requests):
            step()
        found.append((time.thread_time() - began) / requests * 1e6)
    return statistics.median(found)


if __name__ == "__main__":
    main()
