from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.metrics.curves import aiq, cheapest_as_good, hypervolume, relative, upper_hull
from routers.records import Floats

Points = tuple[Floats, Floats]
GRID = st.integers(0, 8).map(lambda step: step / 8)


@st.composite
def points(draw: st.DrawFn, least: int = 1) -> Points:
    pairs = draw(st.lists(st.tuples(GRID, GRID), min_size=least, max_size=9))
    return np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])


def brute_force(cost_P: Floats, quality_P: Floats, cost: float) -> float:
    """Best quality of any mixture of at most two points that costs no more than `cost`."""
    pairs = list(zip(cost_P, quality_P, strict=True))
    best = max((q for c, q in pairs if c <= cost), default=float("nan"))
    for (c1, q1), (c2, q2) in itertools.combinations(sorted(pairs), 2):
        if c1 <= cost < c2:
            best = max(best, q1 + (q2 - q1) * (cost - c1) / (c2 - c1))
    return float(best)


@given(points(), GRID)
def test_hull_equals_brute_force(found: Points, cost: float) -> None:
    hull = upper_hull(*found)
    expected = brute_force(*found, cost)
    got = float(hull.quality_at(np.array([cost]))[0])
    assert (np.isnan(got) and np.isnan(expected)) or got == pytest.approx(expected)


@given(points())
def test_hull_rises_strictly_and_is_concave(found: Points) -> None:
    hull = upper_hull(*found)
    assert (np.diff(hull.cost_V) > 0).all()
    assert (np.diff(hull.quality_V) > 0).all()
    slopes = np.diff(hull.quality_V) / np.diff(hull.cost_V)
    assert (np.diff(slopes) < 0).all()


def test_hull_by_hand() -> None:
    cost = np.array([1.0, 2.0, 3.0, 4.0, 2.0, np.nan])
    quality = np.array([0.2, 0.6, 0.7, 0.5, 0.3, 0.9])
    hull = upper_hull(cost, quality)
    assert hull.cost_V.tolist() == [1, 2, 3]
    assert hull.quality_V.tolist() == [0.2, 0.6, 0.7]


def test_hull_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no point"):
        upper_hull(np.array([np.nan]), np.array([0.5]))


def test_aiq_by_hand() -> None:
    cost, quality = np.array([1.0, 2.0]), np.array([0.2, 0.6])
    assert aiq(cost, quality, 1, 2) == pytest.approx(0.4)
    assert aiq(cost, quality, 1, 3) == pytest.approx((0.4 + 0.6) / 2)
    assert aiq(cost, quality, 1, 3, normalise="code") == pytest.approx((0.4 + 0.6) / 3)
    assert np.isnan(aiq(cost, quality, 1, 1))


@given(points(), GRID, GRID)
def test_a_dominated_point_changes_no_area(found: Points, by: float, worse: float) -> None:
    cost, quality = found
    c_min, c_max, q_ref = float(cost.min()), float(cost.max()) + 2, 0.25
    more_cost = np.append(cost, cost[0] + by)
    more_quality = np.append(quality, max(quality[0] - worse, 0))
    assert aiq(more_cost, more_quality, c_min, c_max) == pytest.approx(
        aiq(cost, quality, c_min, c_max)
    )
    assert hypervolume(more_cost, more_quality, c_max, q_ref) == pytest.approx(
        hypervolume(cost, quality, c_max, q_ref)
    )


@given(points(), st.floats(1e-6, 1e6))
def test_the_unit_of_cost_changes_no_area(found: Points, unit: float) -> None:
    cost, quality = found[0] + 0.125, found[1]
    c_min, c_max = float(cost.min()), float(cost.max()) + 1
    scaled = aiq(cost * unit, quality, c_min * unit, c_max * unit)
    assert scaled == pytest.approx(aiq(cost, quality, c_min, c_max))
    volume = hypervolume(cost * unit, quality, c_max * unit, 0.1)
    assert volume == pytest.approx(hypervolume(cost, quality, c_max, 0.1))


@given(points(), GRID)
def test_areas_stay_within_their_bounds(found: Points, reference: float) -> None:
    cost, quality = found
    area = aiq(cost, quality, float(cost.min()), float(cost.max()) + 1)
    assert quality[cost == cost.min()].max() - 1e-12 <= area <= quality.max() + 1e-12
    volume = hypervolume(cost, quality, 1.0, reference)
    assert np.isnan(volume) if reference == 1 else -1e-12 <= volume <= 1 + 1e-12


def test_hypervolume_by_hand() -> None:
    cost, quality = np.array([0.5, 1.0, 3.0]), np.array([0.6, 0.8, 1.0])
    # From 0.5 to 1 at height 0.1, from 1 to 2 at 0.3; the box is 2 wide and 0.5 high.
    assert hypervolume(cost, quality, 2.0, 0.5) == pytest.approx((0.5 * 0.1 + 1 * 0.3) / 1.0)
    assert hypervolume(np.array([0.0]), np.array([1.0]), 2.0, 0.5) == 1.0
    assert hypervolume(np.array([3.0]), np.array([1.0]), 2.0, 0.5) == 0.0
    assert np.isnan(hypervolume(cost, quality, 0.0, 0.5))


def test_the_cheapest_point_that_is_good_enough() -> None:
    cost, quality = np.array([1.0, 2.0, 3.0, np.nan]), np.array([0.5, 0.7, 0.9, 0.9])
    assert cheapest_as_good(cost, quality, 0.6) == 1
    assert cheapest_as_good(cost, quality, 0.7) == 1
    assert cheapest_as_good(cost, quality, 0.95) is None


def test_relative_to_nothing_is_unknown() -> None:
    assert relative(0.1, 0.5) == pytest.approx(0.2)
    assert np.isnan(relative(0.1, 0.0))
