"""Settings to telemetry: what is configured, and the figures that others keep."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from experts.cards import NANO_PER_USD
from experts.http.breaker import BreakerState
from gateway.execution.traffic import Traffic
from gateway.ledger.store import Ledger
from gateway.retrain.journal import Journal
from gateway.routing.router_store import RouterStore
from gateway.settings.root import Settings
from gateway.shadows.calls import ShadowWork
from gateway.telemetry.access_log import AccessLog
from gateway.telemetry.logs import dropped_lines
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.redaction import Redactor
from gateway.telemetry.trip import Telemetry

if TYPE_CHECKING:
    from gateway.telemetry.tracing import Tracing


def build_telemetry(
    settings: Settings, metrics: Metrics, redactor: Redactor, tracing: Tracing | None
) -> Telemetry:
    """Everything that watches a gateway with these settings."""
    access = AccessLog(settings.logging.access_per_s)
    metrics.gauge(
        "log_lines_dropped",
        "Log lines that were not written: over the limit, or their reader too slow.",
        lambda: {"sampled": access.suppressed, "queue_full": dropped_lines()},
        "reason",
        grows=True,
    )
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


def show_traffic(metrics: Metrics, traffic: Traffic, experts: Iterable[str]) -> None:
    """Show who is in service, and who waits for whom."""
    ids = sorted(experts)
    states = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}
    metrics.gauge(
        "breaker_state",
        "0: in service, 1: being tried, 2: out of service.",
        lambda: {name: states[traffic.health.state(name)] for name in ids},
        "expert",
    )
    metrics.gauge(
        "queue_depth",
        "Calls that wait for a slot of an expert.",
        lambda: {name: traffic.slots.waiting(name) for name in ids},
        "expert",
    )


def show_shadows(metrics: Metrics, shadows: ShadowWork) -> None:
    """Show what became of shadow calls, and what they cost."""
    metrics.gauge(
        "shadow_calls",
        "Calls to experts that did not serve, by what became of them.",
        lambda: dict(shadows.counts),
        "result",
        grows=True,
    )
    metrics.gauge(
        "shadow_spent_usd",
        "What they cost in this period of their budget, here.",
        lambda: shadows.budget.account.spent / NANO_PER_USD,
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
