"""What is counted in one go for many requests."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import numpy as np
import pytest

from gateway.telemetry.metrics import Metrics
from gateway.telemetry.tally import Kind


def lines(metrics: Metrics) -> Iterator[str]:
    for line in anyio.run(metrics.text).decode().splitlines():
        if line.startswith("pointsman"):
            yield line


def test_what_is_added_up_together_is_what_would_have_been_counted_one_by_one() -> None:
    chance = np.random.default_rng(0)
    together, apart = Metrics(), Metrics()
    kind = Kind("openai.chat", "explicit", "explicit", "e", ("untrained",), "k")
    for number in range(700):
        # On the bounds of buckets too.
        decide_s, call_s, total_s = chance.choice([0.0, 0.001, 0.005, 0.01, 0.3, 5.0, 500.0], 3)
        tokens = (number, number % 3, 0, 2, 1)
        seen = (decide_s, call_s, total_s, tokens, [None, 0, 1500][number % 3])
        for metrics in (together, apart):
            metrics.tally(kind).seen.append(seen)
        apart.tally(kind).add_up()
    one, other = sorted(lines(together)), sorted(lines(apart))
    assert len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        (name, value), (same, near) = left.rsplit(" ", 1), right.rsplit(" ", 1)
        assert name == same
        assert float(value) == pytest.approx(float(near)) or "loop_lag" in name
    decided = apart.of_decision("explicit", "explicit", "e")[0].value
    assert (decided, apart.unpriced.values[()], apart.free.values[()]) == (700, 234, 233)


def test_each_time_is_counted_where_it_was_spent() -> None:
    metrics = Metrics()
    metrics.tally(Kind("openai.chat", "r", "p", "e", (), None)).seen.append(
        (0.25, 2.0, 5.0, (0, 0, 0, 0, 0), None)
    )
    anyio.run(metrics.text)
    totals = [
        histogram.cell(labels).total
        for histogram, labels in (
            (metrics.decide, ("r",)),
            (metrics.attempt_latency, ("e",)),
            (metrics.latency, ("e", "false")),
            (metrics.overhead, ("false",)),
        )
    ]
    assert totals == [0.25, 2.0, 5.0, 3.0]
