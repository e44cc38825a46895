from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from eval.metrics.differences import Compared
from eval.metrics.intervals import ClusterBootstrap
from eval.metrics.pairs import Difference, Pair, PairTest, with_holm
from routers.records import Floats


def a_test(groups: list[str], seed: int = 0) -> PairTest:
    return PairTest(groups, ClusterBootstrap(groups, seed=seed, replicates=400), seed)


def both(first_N: Floats, second_N: Floats) -> Compared:
    return Compared(np.stack([first_N, second_N]), np.ones((2, len(first_N))))


def test_a_true_difference_is_found_and_chance_is_not() -> None:
    rng = np.random.default_rng(0)
    groups = [str(row) for row in range(400)]
    base_N = rng.random(400)
    better = a_test(groups).differ(both(base_N + 0.1 + 0.1 * rng.standard_normal(400), base_N))
    assert better.difference == pytest.approx(0.1, abs=0.02)
    assert better.p < 0.01
    assert better.ci95 is not None
    assert better.ci95.low > 0


def test_routers_that_do_not_differ_are_told_apart_in_one_of_twenty() -> None:
    rng = np.random.default_rng(1)
    groups = [str(row // 2) for row in range(120)]
    test = a_test(groups)
    ps = []
    for _ in range(200):
        # Both of a group always come out alike, so that there are 60 queries and not 120.
        one, other = (np.repeat((rng.random(60) < 0.5) * 1.0, 2) for _ in range(2))
        ps.append(test.differ(both(one, other)).p)
    assert 0.01 <= np.mean(np.array(ps) <= 0.05) <= 0.1


def test_equal_routers_have_a_p_of_one() -> None:
    same_N = np.random.default_rng(0).random(30)
    found = a_test([str(row) for row in range(30)]).differ(both(same_N, same_N))
    assert (found.difference, found.p) == (0.0, 1.0)


def test_a_query_that_only_one_was_seen_on_takes_no_part() -> None:
    groups = [str(row) for row in range(3)]
    values, weights = np.array([[1.0, 0, 9], [0, 0, 0]]), np.array([[1.0, 1, 0], [1, 1, 0]])
    found = a_test(groups).differ(Compared(values, weights))
    assert found.difference == 0.5
    nothing = a_test(groups).differ(Compared(values, np.zeros((2, 3))))
    assert np.isnan([nothing.difference, nothing.p]).all()


def test_weights_of_their_own_are_tested_by_the_bootstrap() -> None:
    rng = np.random.default_rng(2)
    groups = [str(row) for row in range(300)]
    values = np.stack([rng.random(300) + 0.2, rng.random(300)])
    found = a_test(groups).differ(Compared(values, rng.uniform(1, 3, (2, 300))))
    assert found.p < 0.05
    assert found.ci95 is not None
    assert found.ci95.low > 0


def test_holm_corrects_for_many_tests() -> None:
    unknown = Difference(float("nan"), None, float("nan"))
    plain = Pair("a", "b", unknown, unknown, unknown, float("nan"))
    pairs = [replace(plain, quality=Difference(0.1, None, p)) for p in (0.04, 0.01, 0.03)]
    found = with_holm([*pairs, plain])
    assert [pair.p_holm for pair in found[:3]] == pytest.approx([0.06, 0.03, 0.06])
    assert np.isnan(found[3].p_holm)
