"""The gate lets through what is better, and says why it stops what is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from eval.metrics.intervals import Interval
from eval.ope.judge import Judgement, Value
from eval.ope.support import Support
from eval.promotion.gate import Evidence, GateRules, gate

ROWS = 400


def a_value(value: float, stderr: float) -> Value:
    interval = Interval(value - 2 * stderr, value + 2 * stderr)
    return Value(value, stderr, interval, interval)


def evidence(
    quality: float = 0.05, utility: float = 0.06, stderr: float = 0.01, effective: float = 300.0
) -> Evidence:
    rng = np.random.default_rng(0)
    support = Support(ROWS, effective, 4.0, 1.0, 0.05, 0.0, {})
    gains = {"quality": a_value(quality, stderr), "utility": a_value(utility, stderr)}
    expected_N = rng.uniform(0.4, 0.9, ROWS)
    return Evidence(
        judgement=Judgement(support, {}, gains, {}, {}, 1.0),
        against="what serves",
        gain_N=rng.normal(quality, 0.3, ROWS),
        groups=[f"q{row}" for row in range(ROWS)],
        expected_N=expected_N,
        score_N=(rng.random(ROWS) < expected_N).astype(np.float64),
        weight_N=np.ones(ROWS),
        decide_us=300.0,
        slices={"task law": np.arange(ROWS) < 120, "task few": np.arange(ROWS) < 10},
    )


def failed(found: Evidence, rules: GateRules | None = None) -> list[str]:
    return [check.name for check in gate(found, rules or GateRules()).checks if not check.passed]


def test_what_is_better_passes_and_says_by_how_much() -> None:
    verdict = gate(evidence(), GateRules())
    assert verdict.passed
    assert "utility +6.0 points, at least +4.4" in verdict.reason


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"utility": 0.01}, "improvement"),
        ({"utility": 0.06, "quality": -0.02}, "quality"),
        ({"utility": -0.03}, "improvement"),
    ],
)
def test_what_is_not_shown_to_be_better_is_stopped(change: dict[str, float], name: str) -> None:
    assert failed(evidence(**change)) == [name]


def test_a_log_that_can_not_tell_stops_everything() -> None:
    verdict = gate(evidence(effective=12.0), GateRules())
    assert not verdict.passed
    assert "are worth 12 for this candidate" in verdict.reason


def test_one_that_promises_too_much_is_stopped() -> None:
    found = evidence()
    boasting = replace(found, expected_N=np.minimum(found.expected_N + 0.25, 1.0))
    assert failed(boasting) == ["calibration"]


def test_one_whose_choice_was_never_scored_is_stopped() -> None:
    assert failed(replace(evidence(), score_N=np.full(ROWS, np.nan))) == ["calibration"]


def test_a_slice_that_gets_worse_is_named_and_a_small_one_is_not_judged() -> None:
    found = evidence()
    gain_N = found.gain_N.copy()
    gain_N[:120] -= 0.3
    verdict = gate(replace(found, gain_N=gain_N), GateRules())
    assert not verdict.passed
    assert "task law loses" in verdict.reason
    gain_N = found.gain_N.copy()
    gain_N[:10] -= 0.9
    assert gate(replace(found, gain_N=gain_N), GateRules()).passed


def test_many_slices_of_pure_noise_raise_no_alarm() -> None:
    rng = np.random.default_rng(5)
    slices = {f"slice {n}": rng.random(ROWS) < 0.2 for n in range(40)}
    alarms = sum(
        "slices" in failed(replace(evidence(), gain_N=rng.normal(-0.03, 0.4, ROWS), slices=slices))
        for _ in range(100)
    )
    assert alarms <= 10


def test_a_slice_of_few_long_conversations_tells_no_more_than_so_many() -> None:
    """All requests of a conversation go well or badly together."""
    rng, names = np.random.default_rng(6), [f"c{row // 25}" for row in range(ROWS)]
    slices = {"task law": np.arange(ROWS) < 200}

    def alarms(groups: list[str]) -> int:
        found = 0
        for _ in range(100):
            gain_N = np.repeat(rng.normal(-0.03, 0.3, ROWS // 25), 25)
            noisy = replace(evidence(), gain_N=gain_N, groups=groups, slices=slices)
            found += "slices" in failed(noisy)
        return found

    assert alarms(names) <= 15
    assert alarms([f"q{row}" for row in range(ROWS)]) > 25


def test_a_slow_one_is_stopped() -> None:
    assert failed(replace(evidence(), decide_us=9_000.0)) == ["latency"]
