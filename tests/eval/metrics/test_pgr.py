from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.metrics.intervals import ClusterBootstrap
from eval.metrics.pgr import apgr_replicates, pgr_curve, weak_and_strong

WEAK = np.array([0.0, 0.0, 1.0, 1.0])
STRONG = np.array([1.0, 1.0, 1.0, 0.0])


def test_curve_by_hand() -> None:
    curve = pgr_curve(np.array([4.0, 3.0, 2.0, 1.0]), WEAK, STRONG)
    assert curve is not None
    assert curve.share_K.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert curve.pgr_K.tolist() == [0, 1, 2, 2, 1]
    assert curve.apgr == pytest.approx(0.25 * (0.5 + 1.5 + 2 + 1.5))
    assert curve.cpt(0.5) == pytest.approx(0.125)
    assert curve.cpt(1.0) == pytest.approx(0.25)
    assert curve.cpt(0.0) == 0.0
    assert np.isnan(curve.cpt(3.0))


def test_equal_advantages_go_together_like_chance() -> None:
    curve = pgr_curve(np.zeros(4), WEAK, STRONG)
    assert curve is not None
    assert curve.apgr == pytest.approx(0.5)


def test_random_routing_has_a_half_on_average() -> None:
    rng = np.random.default_rng(0)
    weak, strong = rng.random(400) < 0.6, rng.random(400) < 0.8
    values = []
    for _ in range(200):
        curve = pgr_curve(rng.random(400), weak.astype(float), strong.astype(float))
        assert curve is not None
        values.append(curve.apgr)
    stderr = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values) - 0.5) < 4 * stderr


@given(
    st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=40), st.integers(0, 9)
)
def test_nobody_beats_the_oracle(pairs: list[tuple[bool, bool]], seed: int) -> None:
    weak = np.array([float(w) for w, _ in pairs])
    strong = np.array([float(s) for _, s in pairs])
    oracle = pgr_curve(strong - weak, weak, strong)
    anyone = pgr_curve(np.random.default_rng(seed).random(len(weak)), weak, strong)
    if strong.sum() <= weak.sum():
        assert oracle is None
        return
    assert oracle is not None
    assert anyone is not None
    assert oracle.apgr >= anyone.apgr - 1e-12
    assert oracle.apgr >= 0.5 - 1e-12


def test_an_oracle_may_have_more_than_one() -> None:
    weak = np.array([1.0, 1.0, 0.0, 0.0, 0.0])
    strong = np.array([0.0, 0.0, 1.0, 1.0, 1.0])
    curve = pgr_curve(strong - weak, weak, strong)
    assert curve is not None
    assert curve.apgr > 1


def test_unknown_scores_are_left_out() -> None:
    weak, strong = np.append(WEAK, np.nan), np.append(STRONG, 1.0)
    curve = pgr_curve(np.arange(5.0), weak, strong)
    same = pgr_curve(np.arange(4.0), WEAK, STRONG)
    assert curve is not None
    assert same is not None
    assert curve.apgr == same.apgr


def test_no_gap_is_no_curve() -> None:
    assert pgr_curve(np.arange(4.0), STRONG, WEAK) is None
    assert pgr_curve(np.arange(4.0), WEAK, WEAK) is None
    assert pgr_curve(np.zeros(0), np.zeros(0), np.zeros(0)) is None


def test_weights_count_queries_as_often_as_drawn() -> None:
    advantage = np.array([4.0, 3.0, 2.0, 1.0])
    weighted = pgr_curve(advantage, WEAK, STRONG, np.array([2.0, 1.0, 0.0, 1.0]))
    rows = [0, 0, 1, 3]
    repeated = pgr_curve(advantage[rows], WEAK[rows], STRONG[rows])
    assert weighted is not None
    assert repeated is not None
    assert weighted.apgr == pytest.approx(repeated.apgr)


def test_replicates_scatter_around_the_estimate() -> None:
    rng = np.random.default_rng(1)
    weak = (rng.random(300) < 0.6).astype(np.float64)
    strong = (rng.random(300) < 0.8).astype(np.float64)
    advantage = strong - weak + rng.normal(size=300)
    bootstrap = ClusterBootstrap([str(i) for i in range(300)], seed=0, replicates=200)
    drawn = apgr_replicates(advantage, weak, strong, bootstrap.weights())
    curve = pgr_curve(advantage, weak, strong)
    assert curve is not None
    assert abs(drawn.mean() - curve.apgr) < 4 * drawn.std() / np.sqrt(200) + 0.02


@pytest.mark.parametrize(
    ("quality", "cost", "pair"),
    [
        ([0.5, 0.9, 0.7], [1.0, 3.0, 2.0], (0, 1)),
        ([0.6, 0.9, 0.5], [1.0, 3.0, 2.0], (0, 1)),
        ([0.9, 0.6, 0.5], [1.0, 3.0, 2.0], (2, 0)),
        ([0.6, 0.9, 0.5], [np.nan, 3.0, 2.0], (2, 1)),
        ([np.nan, 0.9, 0.5], [0.1, 3.0, 2.0], (2, 1)),
        ([0.5, 0.5], [1.0, 2.0], None),
        ([0.5, np.nan], [1.0, 2.0], None),
    ],
)
def test_weak_is_the_cheapest_and_strong_the_best(
    quality: list[float], cost: list[float], pair: tuple[int, int] | None
) -> None:
    strong = int(np.nanargmax(quality))
    assert weak_and_strong(np.array(quality), np.array(cost), strong) == pair


def test_the_oracle_and_chance_have_the_values_known_of_routellm_mmlu() -> None:
    """Weak .681, strong .806, only the strong right on 17.8 %, only the weak on 5.3 %."""
    weak_N, strong_N = np.zeros(1000), np.zeros(1000)
    weak_N[:53] = 1
    strong_N[53:231] = 1
    both_right = 628
    weak_N[231 : 231 + both_right] = strong_N[231 : 231 + both_right] = 1
    assert (weak_N.mean(), strong_N.mean()) == (0.681, 0.806)
    oracle = pgr_curve(strong_N - weak_N, weak_N, strong_N)
    assert oracle is not None
    assert oracle.apgr == pytest.approx(1.285, abs=0.002)
    assert (oracle.cpt(0.5), oracle.cpt(0.8)) == pytest.approx((0.063, 0.1), abs=0.001)
    rng = np.random.default_rng(0)
    chances = [pgr_curve(rng.random(1000), weak_N, strong_N) for _ in range(50)]
    found = np.array([[c.apgr, c.cpt(0.5), c.cpt(0.8)] for c in chances if c is not None])
    assert found.mean(axis=0) == pytest.approx([0.5, 0.5, 0.8], abs=0.04)
