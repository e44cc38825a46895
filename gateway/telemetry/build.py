"""Settings to telemetry: what is configured, and the figures that others keep."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from experts.cards import NANO_PER_USD
from experts.http.breaker import BreakerState
from gateway.execution.traffic import Traffic
from gateway.ledger.store import Ledger
from gateway.retrain.journal import Journal
from gateway.routing.router_store import RouterStore
from gateway.settings.root import Settings
from gateway.telemetry.access_log import AccessLog
from gateway.telemetry.logs import dropped_lines
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.redaction import Redactor
from gateway.telemetry.trip import Telemetry

if TYPE_CHECKING:
    from gateway.state import Gateway
    from gateway.telemetry.tracing import Tracing


def build_telemetry(
    settings: Settings, metrics: Metrics, redactor: Redactor, tracing: Tracing | None
) -> Telemetry:
    """Everything that watches a gateway with these settings."""
    access = AccessLog(settings.logging.access_per_s)
    return Telemetry(metrics, redactor, access, tracing, key_labels=settings.telemetry.key_labels)


def ledger_metrics(ledger: Ledger) -> Metrics:
    """The figures of a gateway over this ledger."""
    metrics = Metrics()
    metrics.gauge("ledger_pending_rows", "Rows not yet on disk.", lambda: ledger.pending)
    metrics.gauge("ledger_lag_seconds", "Age of the oldest row not on disk.", ledger.lag_s)
    metrics.gauge(
        "ledger_lost_rows",
        "Rows that the database refused for good.",
        lambda: ledger.lost_rows,
        grows=True,
    )
    metrics.gauge(
        "ledger_failed_writes",
        "Writes that failed and were tried again.",
        lambda: ledger.failed_writes,
        grows=True,
    )
    if (spools := ledger.spools) is not None:
        metrics.gauge(
            "ledger_spooled_rows",
            "Rows on the local disk that the database has not got yet.",
            lambda: spools.rows,
        )
        metrics.gauge("ledger_spool_bytes", "Size of their files.", lambda: spools.bytes)
        metrics.gauge(
            "ledger_spool_age_seconds", "For how long there have been such rows.", spools.age_s
        )
    return metrics


def show_serving(metrics: Metrics, serving: Callable[[], Gateway]) -> None:
    """Show the figures of whoever serves: after a reload of another gateway, if it succeeds."""
    _show_traffic(metrics, serving)
    _show_shadows(metrics, serving)
    metrics.watch_cache(
        lambda: serving().lasting.cache.store.bytes,
        lambda: len(serving().lasting.cache.store),
        lambda: serving().lasting.cache.waiting,
    )
    metrics.gauge(
        "log_lines_dropped",
        "Log lines that were not written: over the limit, or their reader too slow.",
        lambda: {
            "sampled": serving().telemetry.access.suppressed,
            "queue_full": dropped_lines(),
        },
        "reason",
        grows=True,
    )


def _show_traffic(metrics: Metrics, serving: Callable[[], Gateway]) -> None:
    """Who is in service, and who waits for whom."""
    states = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}

    def by_expert(read: Callable[[Traffic, str], int]) -> dict[str, float]:
        gateway = serving()
        traffic = gateway.lasting.traffic
        return {name: read(traffic, name) for name in sorted(gateway.pool.experts)}

    metrics.gauge(
        "breaker_state",
        "0: in service, 1: being tried, 2: out of service.",
        lambda: by_expert(lambda traffic, name: states[traffic.health.state(name)]),
        "expert",
    )
    metrics.gauge(
        "queue_depth",
        "Calls that wait for a slot of an expert.",
        lambda: by_expert(lambda traffic, name: traffic.slots.waiting(name)),
        "expert",
    )


def _show_shadows(metrics: Metrics, serving: Callable[[], Gateway]) -> None:
    """What became of shadow calls, and what they cost."""
    metrics.gauge(
        "shadow_calls",
        "Calls to experts that did not serve, by what became of them.",
        lambda: dict(serving().lasting.shadows.counts),
        "result",
        grows=True,
    )
    metrics.gauge(
        "shadow_spent_usd",
        "What they cost in this period of their budget, here.",
        lambda: serving().lasting.shadows.budget.account.spent / NANO_PER_USD,
    )


def show_drifts(metrics: Metrics, store: RouterStore) -> None:
    """Show how often retraining, a process of its own, found that the world has moved."""
    metrics.gauge(
        "drifts",
        "Times that experts' scores, or what is asked, were found to have left what they were.",
        lambda: {name: Journal(store.home(name)).read().drifts for name in store.names()},
        "router",
        grows=True,
    )
