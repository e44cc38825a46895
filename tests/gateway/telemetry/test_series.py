"""Our counters and histograms, as Prometheus's own parser reads them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.metrics_core import Metric

from gateway.telemetry.series import MAX_SERIES, Counter, Gauge, Histogram


def samples(figure: Counter | Histogram | Gauge) -> dict[tuple[str, ...], float]:
    family: Metric = figure.frozen()()
    return {(s.name, *s.labels.values()): s.value for s in family.samples}


def test_a_counter_adds_up_per_label() -> None:
    counter = Counter("c", "text", ["who"])
    counter.add(("a",))
    counter.add(("a",), 2.5)
    counter.add(("b",))
    assert samples(counter) == {("c_total", "a"): 3.5, ("c_total", "b"): 1.0}


def test_a_counter_without_labels_is_there_before_anything_happened() -> None:
    assert samples(Counter("c", "text")) == {("c_total",): 0.0}


def test_label_values_are_bounded() -> None:
    counter = Counter("c", "text", ["who"])
    histogram = Histogram("h", "text", ["who"], bounds=(1.0,))
    for number in range(MAX_SERIES + 50):
        counter.add((str(number),))
        histogram.observe((str(number),), 0.5)
    assert len(counter.values) == MAX_SERIES + 1
    assert counter.values["other",] == 50
    assert len(histogram.cells) == MAX_SERIES + 1
    assert sum(sum(cell.counts) for cell in histogram.cells.values()) == MAX_SERIES + 50


@given(st.lists(st.floats(0, 20, allow_nan=False), min_size=1))
def test_a_histogram_counts_each_value_in_every_bucket_that_holds_it(values: list[float]) -> None:
    bounds = (0.5, 1.0, 10.0)
    histogram = Histogram("h", "text", bounds=bounds)
    for value in values:
        histogram.observe((), value)
    found = samples(histogram)
    for bound in bounds:
        assert found["h_bucket", str(bound)] == sum(value <= bound for value in values)
    assert found["h_bucket", "+Inf"] == found["h_count",] == len(values)
    assert math.isclose(found["h_sum",], sum(values))


def test_a_copy_does_not_change_while_it_is_written_out() -> None:
    histogram = Histogram("h", "text", bounds=(1.0,))
    copy = histogram.frozen()
    histogram.observe((), 0.5)
    assert [s.value for s in copy().samples if s.name == "h_count"] == [0.0]


@pytest.mark.parametrize(("grows", "name"), [(False, "g"), (True, "g_total")])
def test_a_gauge_reads_what_others_keep(grows: bool, name: str) -> None:
    kept = {"a": 1.0}
    gauge = Gauge("g", "text", lambda: kept, "who", grows=grows)
    kept["a"] = 4.0
    assert samples(gauge) == {(name, "a"): 4.0}
