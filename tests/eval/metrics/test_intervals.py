from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from eval.metrics.intervals import ClusterBootstrap, Interval, percentile_interval


def bootstrap(groups: list[str], replicates: int = 50, seed: int = 0) -> ClusterBootstrap:
    return ClusterBootstrap(groups, seed=seed, replicates=replicates)


def test_the_same_seed_draws_the_same() -> None:
    values = np.random.default_rng(0).random((2, 9))
    ones = np.ones((2, 9))
    groups = list("aabbccdde")
    assert_array_equal(bootstrap(groups).means(values, ones), bootstrap(groups).means(values, ones))
    assert not np.array_equal(
        bootstrap(groups).means(values, ones), bootstrap(groups, seed=1).means(values, ones)
    )


def test_sums_equal_those_of_the_drawn_weights() -> None:
    values = np.random.default_rng(0).random((3, 9))
    drawn = bootstrap(list("aabbccdde"))
    weights = np.stack(list(drawn.weights()))
    assert_allclose(drawn.sums(values), weights @ values.T)


def test_groups_are_drawn_whole_and_as_many_as_there_are() -> None:
    groups = list("aaabbc")
    for weights in bootstrap(groups).weights():
        per_group = {g: {weights[i] for i, name in enumerate(groups) if name == g} for g in "abc"}
        assert all(len(counts) == 1 for counts in per_group.values())
        assert sum(counts.pop() for counts in per_group.values()) == 3


def test_chunks_draw_what_one_block_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random((1, 6))
    groups = list("abcdef")
    whole = bootstrap(groups).sums(values)
    monkeypatch.setattr("eval.metrics.intervals._CHUNK_CELLS", 12)
    assert_allclose(bootstrap(groups).sums(values), whole)


def test_unknown_values_without_weight_do_no_harm() -> None:
    values = np.array([[1.0, np.nan, 3.0]])
    means = bootstrap(list("abc")).means(values, np.array([[1.0, 0.0, 1.0]]))
    known = means[~np.isnan(means)]
    assert len(known) > 40
    assert set(np.unique(known)) <= {1.0, 5 / 3, 2.0, 7 / 3, 3.0}
    assert np.isnan(bootstrap(list("abc")).means(values, np.zeros((1, 3)))).all()


def test_nothing_to_draw_from_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        bootstrap([])


def test_percentile_interval_by_hand() -> None:
    middle = percentile_interval(np.arange(101.0), level=0.9)
    assert middle is not None
    assert middle.as_list() == pytest.approx([5.0, 95.0])
    assert percentile_interval(np.array([np.nan, 2.0])) == Interval(2.0, 2.0)
    assert percentile_interval(np.array([np.nan])) is None


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=50))
def test_an_interval_lies_within_the_replicates(values: list[float]) -> None:
    found = percentile_interval(np.array(values))
    assert found is not None
    assert min(values) <= found.low <= found.high <= max(values)
