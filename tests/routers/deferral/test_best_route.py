"""BEST-Route: a model asked n times is an expert, and with n = 1 it is HybridLLM."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from routers.deferral.best_route import Arm, BestRoute, best_of_n, easier_margin, match_labels
from routers.deferral.line import Line
from routers.records import Floats, Vectors

ARMS = (Arm("small"), Arm("small", 4), Arm("large"))
USD = np.array([1.0, 4.0, 20.0])


def world(seed: int = 0, count: int = 3000) -> tuple[Vectors, Floats, Floats]:
    """Difficulty is the first coordinate; four tries help where one does not suffice."""
    rng = np.random.default_rng(seed)
    vectors_ND = rng.normal(size=(count, 6)).astype(np.float32)
    right_N = 1 / (1 + np.exp(2.5 * vectors_ND[:, 0].astype(np.float64)))
    small_NS = np.where(rng.uniform(size=(count, 20)) < right_N[:, None], 1.0, 0.0)
    large_NT = np.where(rng.uniform(size=(count, 4)) < 0.95, 1.0, 0.0)
    return vectors_ND, small_NS, large_NT


def labels(small_NS: Floats, large_NT: Floats) -> Floats:
    best_of_4 = small_NS[:, :20].reshape(len(small_NS), 5, 4).max(axis=2)
    return np.stack([match_labels(small_NS, large_NT), match_labels(best_of_4, large_NT)], axis=1)


def test_easy_requests_go_to_one_try_harder_ones_to_four_and_the_hardest_to_the_reference() -> None:
    vectors_ND, small_NS, large_NT = world()
    router = BestRoute.fit(ARMS, vectors_ND, labels(small_NS, large_NT), USD)
    chosen_N = router.choose(vectors_ND, 0.85)
    hardness = [vectors_ND[chosen_N == arm, 0].mean() for arm in range(3)]
    assert hardness[0] < hardness[1] < hardness[2]
    assert (np.bincount(chosen_N, minlength=3) > 100).all()
    quality_NA = np.stack([small_NS.mean(1), best_of_n(small_NS, small_NS, 4), large_NT.mean(1)], 1)
    reached = quality_NA[np.arange(len(chosen_N)), chosen_N].mean()
    spent = USD[chosen_N].mean()
    assert reached > large_NT.mean() - 0.05
    assert spent < 0.75 * USD[-1]


def test_a_higher_demand_never_costs_less() -> None:
    vectors_ND, small_NS, large_NT = world()
    router = BestRoute.fit(ARMS, vectors_ND, labels(small_NS, large_NT), USD)
    spent = [USD[router.choose(vectors_ND, least)].mean() for least in np.linspace(0, 1.01, 15)]
    assert (np.diff(spent) >= 0).all()
    assert spent[0] == USD[0]
    assert spent[-1] == USD[-1]


def test_with_single_tries_alone_it_is_hybrid_llm() -> None:
    vectors_ND, small_NS, large_NT = world()
    match_N1 = match_labels(small_NS, large_NT)[:, None]
    router = BestRoute.fit((ARMS[0], ARMS[2]), vectors_ND, match_N1, USD[[0, 2]])
    head = Line.fit(vectors_ND.astype(np.float64), match_N1[:, 0], 3.0)
    for least in (0.3, 0.6, 0.9):
        keeps_N = head.predict(vectors_ND.astype(np.float64)) >= least
        assert (router.choose(vectors_ND, least) == np.where(keeps_N, 0, 1)).all()


def test_best_of_n_is_the_mean_over_all_draws() -> None:
    rng = np.random.default_rng(1)
    samples_NS, reward_NS = rng.uniform(size=(5, 7)), rng.uniform(size=(5, 7))
    for n in (1, 3, 7):
        sets = list(itertools.combinations(range(7), n))
        drawn = np.mean(
            [[row[max(s, key=lambda k: r[k])] for s in sets]
             for row, r in zip(samples_NS, reward_NS, strict=True)], axis=1
        )  # fmt: skip
        assert best_of_n(samples_NS, reward_NS, n) == pytest.approx(drawn)
    with pytest.raises(ValueError, match="1 to 7"):
        best_of_n(samples_NS, reward_NS, 8)


def test_a_margin_spreads_labels_where_one_side_is_always_better() -> None:
    rng = np.random.default_rng(2)
    weak, strong = rng.uniform(0, 0.5, size=(50, 4)), rng.uniform(0.6, 1.0, size=(50, 4))
    assert match_labels(weak, strong).max() == 0
    margin = easier_margin(weak, strong, [0.0, 0.2, 0.55, 1.0])
    assert margin == 0.55


def test_it_comes_back_from_its_state() -> None:
    vectors_ND, small_NS, large_NT = world(count=200)
    router = BestRoute.fit(ARMS, vectors_ND, labels(small_NS, large_NT), USD)
    again = BestRoute.from_state(router.state())
    assert again.arms == ARMS
    assert (again.chances(vectors_ND) == router.chances(vectors_ND)).all()
    assert str(ARMS[1]) == "small#bo4"
