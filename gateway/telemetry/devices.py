"""What declared devices draw and have used, as their driver tells, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from experts.engines.nvml import Reading, read_devices

_LABELS = ("device", "name")


class _Figure(NamedTuple):
    name: str
    text: str
    kind: type[CounterMetricFamily | GaugeMetricFamily]
    value: Callable[[Reading], float | None]


_FIGURES = (
    _Figure("power_watts", "What it draws.", GaugeMetricFamily, lambda one: one.power_w),
    _Figure(
        "energy_joules",
        "What it has used since its driver was loaded.",
        CounterMetricFamily,
        lambda one: one.energy_j,
    ),
    _Figure(
        "busy_ratio",
        "Share of the last moment in which it computed.",
        GaugeMetricFamily,
        lambda one: one.busy_share,
    ),
)


def device_figures(device_ids: Sequence[str]) -> list[Metric]:
    """The figures of these devices; none where no driver can be asked. Asking is I/O."""
    readings = [one for one in (read_devices(device_ids) or {}).values() if one is not None]
    return [_family(figure, readings) for figure in _FIGURES] if readings else []


def _family(figure: _Figure, readings: Sequence[Reading]) -> Metric:
    family = figure.kind(f"pointsman_device_{figure.name}", figure.text, labels=_LABELS)
    for reading in readings:
        value = figure.value(reading)
        if value is not None:
            family.add_metric((reading.device_id, reading.name), value)
    return family
