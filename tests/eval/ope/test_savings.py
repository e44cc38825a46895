"""What routing saved, told the right way round."""

from __future__ import annotations

import pytest

from eval.metrics.intervals import Interval
from eval.ope.judge import Judgement, Value
from eval.ope.savings import _alternative
from eval.ope.support import Support

SUPPORT = Support(400, 300.0, 4.0, 1.0, 0.05, 0.0, {})


def value(mean: float, low: float, high: float) -> Value:
    return Value(mean, 0.01, None, Interval(low, high))


def found(cost: float) -> Judgement:
    """An alternative that costs a cent more than what served, and scores five points less."""
    values = {"quality": {"dr": value(0.6, 0.5, 0.7)}, "cost": {"dr": value(cost, 0.01, 0.03)}}
    gains = {"quality": value(-0.05, -0.08, -0.01), "cost": value(0.01, 0.004, 0.018)}
    return Judgement(SUPPORT, values, gains, {}, {}, 1.0)


def test_what_the_alternative_costs_more_is_saved_and_what_it_scores_less_is_gained() -> None:
    told = _alternative("Always dear", found(cost=0.02))
    assert told.saved == pytest.approx(0.5)
    assert told.quality_gain == pytest.approx(0.05)
    assert told.saved_ci is not None
    assert told.saved_ci.as_list() == pytest.approx([0.2, 0.9])
    assert told.quality_gain_ci is not None
    assert told.quality_gain_ci.as_list() == pytest.approx([0.01, 0.08])
    assert told.sentence.startswith(
        "Against always dear, routing saved 50% (95 % interval 20% to 90%) of the cost, at a "
        "quality 5.0 points higher (+1.0 to +8.0)"
    )


def test_nothing_is_saved_of_what_would_have_cost_nothing() -> None:
    told = _alternative("Always free", found(cost=0.0))
    assert (told.saved, told.saved_ci) == (None, None)
    assert told.quality_gain == pytest.approx(0.05)
    assert "costs are unknown, or it would have cost nothing" in told.sentence
