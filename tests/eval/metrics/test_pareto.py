from __future__ import annotations

import numpy as np
import pytest

from eval.metrics.figures import Levels
from eval.metrics.pareto import pareto_distances


def levels(*points: tuple[float, float]) -> Levels:
    cost, quality = np.array(points).T
    return Levels(quality, cost)


ENDS = levels((0.0, 0.0), (1.0, 1.0))


def test_a_curve_on_the_front_is_at_no_distance_from_it_by_definition() -> None:
    found = pareto_distances({"a": levels((0.0, 0.5), (0.5, 1.0))}, [ENDS])
    own, others = found["a"]
    assert own == 0
    # Without itself the front is the diagonal, and both points lie beside it.
    assert others == pytest.approx(0.5 / np.sqrt(2))


def test_the_distance_is_to_the_line_and_not_to_its_points() -> None:
    found = pareto_distances({"a": levels((0.6, 0.4))}, [ENDS, levels((0.5, 0.5))])
    assert found["a"] == pytest.approx((0.2 / np.sqrt(2),) * 2)


def test_a_dominated_point_and_other_units_change_nothing() -> None:
    curves = {"a": levels((0.2, 0.4), (0.7, 0.8)), "b": levels((0.3, 0.3), (0.6, 0.5))}
    plain = pareto_distances(curves, [ENDS])
    assert pareto_distances(curves, [ENDS, levels((0.9, 0.1))]) == plain
    dearer = {name: Levels(each.quality_K, 7 * each.cost_K) for name, each in curves.items()}
    ends = Levels(ENDS.quality_K, 7 * ENDS.cost_K)
    scaled = pareto_distances(dearer, [ends])
    for name in plain:
        assert scaled[name] == pytest.approx(plain[name])


def test_unknown_costs_have_no_distance() -> None:
    unknown = Levels(np.array([0.5, 0.6]), np.full(2, np.nan))
    assert np.isnan(pareto_distances({"a": unknown}, [unknown])["a"]).all()
