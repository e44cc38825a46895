"""How the engines of ours are, for Prometheus.

The process that owns them is asked, so the figures are the same whichever process answers and carry
no `worker`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

Shown = Mapping[str, Mapping[str, Any]]
"""Engine to how it is, see `gateway.residency.words.OrderResult`."""
_LABELS = ("engine",)


class _Figure(NamedTuple):
    part: str
    field: str
    kind: type[CounterMetricFamily | GaugeMetricFamily]
    name: str
    text: str


_FIGURES = (
    _Figure("state", "level", GaugeMetricFamily, "sleep_level", "How deeply it sleeps, 0 awake."),
    _Figure("state", "wakes", CounterMetricFamily, "wakes", "Times that it was woken."),
    _Figure("state", "restarts", CounterMetricFamily, "restarts", "Times it was started again."),
    _Figure("load", "running", GaugeMetricFamily, "requests_running", "Requests that it computes."),
    _Figure(
        "load",
        "waiting",
        GaugeMetricFamily,
        "requests_waiting",
        "Requests that it has accepted and not begun.",
    ),
    _Figure(
        "load", "kv_used", GaugeMetricFamily, "kv_cache_ratio", "Share of its KV cache in use."
    ),
    _Figure(
        "load",
        "prefix_hits",
        CounterMetricFamily,
        "prefix_cache_hit_tokens",
        "Prompt tokens that its prefix cache spared it.",
    ),
    _Figure(
        "load",
        "prefix_queries",
        CounterMetricFamily,
        "prefix_cache_query_tokens",
        "Prompt tokens that were looked up there.",
    ),
)


def engine_figures(shown: Shown) -> list[Metric]:
    """The figures of these engines; of one that sleeps or says nothing, those that are known."""
    status = GaugeMetricFamily(
        "pointsman_engine_status", "1 for what it is doing.", labels=("engine", "status")
    )
    held = GaugeMetricFamily(
        "pointsman_engine_requests_held", "Requests that wait until it is awake.", labels=_LABELS
    )
    for engine, about in shown.items():
        status.add_metric((engine, about["state"]["status"]), 1)
        held.add_metric((engine,), about["waiting"])
    return [status, held, *(_family(figure, shown) for figure in _FIGURES)]


def _family(figure: _Figure, shown: Shown) -> Metric:
    family = figure.kind(f"pointsman_engine_{figure.name}", figure.text, labels=_LABELS)
    for engine, about in shown.items():
        value = (about[figure.part] or {}).get(figure.field)
        if value is not None:
            family.add_metric((engine,), value)
    return family
