"""A router is only as bold as would have paid."""

from __future__ import annotations

import numpy as np
import pytest

from routers.errors import TableError
from routers.fitting.practice import Practice
from routers.policies.cautious import WITHOUT_END, Caution, CautiousPolicy
from routers.policies.greedy import GreedyUtilityPolicy
from routers.records import Candidates, Floats, Preference

COMPOSED = np.array([False, False, True, True, True, True])


def world(count: int, seed: int, noise: float) -> tuple[Floats, Floats]:
    """Two experts that are good at different things, and four compositions, none of them better.

    Returns:
        What is expected of each, and what it comes to.
    """
    rng = np.random.default_rng(seed)
    easy_N = rng.uniform(size=count)
    mean_NA = np.stack([0.6 + 0.3 * (easy_N > 0.5), 0.8 - 0.3 * (easy_N > 0.5)], axis=1)
    mean_NA = np.hstack([mean_NA, np.full((count, 4), 0.74)])
    expected_NA = mean_NA + rng.normal(scale=noise * np.where(COMPOSED, 2, 1), size=(count, 6))
    return expected_NA, np.where(rng.uniform(size=(count, 6)) < mean_NA, 1.0, 0.0)


def gain(caution: Caution, seed: int, noise: float) -> float:
    expected_NA, utility_NA = world(20_000, seed, noise)
    chosen_N = caution.columns(expected_NA, COMPOSED)
    return float((utility_NA[np.arange(20_000), chosen_N] - utility_NA[:, caution.fixed]).mean())


def test_many_compositions_that_only_look_good_are_left_alone() -> None:
    caution = Caution.fit(*world(3000, 0, 0.1), COMPOSED)
    bold = Caution(caution.fixed, 0.0, 0.0)
    assert caution.over_singles > 0
    assert gain(caution, 1, 0.1) > max(gain(bold, 1, 0.1) + 0.02, 0.03)


def test_where_estimates_tell_nothing_the_best_fixed_choice_stays() -> None:
    expected_NA, utility_NA = world(3000, 2, 0.1)
    shuffled_NA = np.random.default_rng(3).permutation(expected_NA)
    caution = Caution.fit(shuffled_NA, utility_NA, COMPOSED)
    assert caution.fixed == utility_NA.mean(axis=0).argmax()
    assert (caution.columns(expected_NA, COMPOSED) == caution.fixed).all()


def test_what_few_groups_gained_is_chance_however_many_rows_they_have() -> None:
    gain_N = np.repeat([0.12, -0.1], 150)
    utility_NA = np.stack([np.full(300, 0.5), 0.5 + gain_N], axis=1)
    expected_NA = np.tile([0.5, 0.6], (300, 1))
    groups = [str(row // 30) for row in range(300)]
    alone = np.array([False, False])
    assert Caution.fit(expected_NA, utility_NA, alone, fixed=0).over_fixed < 1
    assert Caution.fit(expected_NA, utility_NA, alone, fixed=0, groups=groups).over_fixed > 1


def test_sure_estimates_are_followed() -> None:
    caution = Caution.fit(*world(3000, 4, 0.0), COMPOSED)
    assert gain(caution, 5, 0.0) > 0.08


EXPERTS = ("a", "b", "team1", "team2", "team3", "team4")
ANYTHING = Preference()


def query(expected_A: Floats, experts: tuple[str, ...] = EXPERTS) -> Candidates:
    unknown_A = np.full(len(experts), np.nan)
    return Candidates(
        experts=experts,
        quality_A=expected_A,
        stderr_A=np.full(len(experts), 0.05),
        cost_usd_A=np.ones(len(experts)),
        latency_s_A=unknown_A,
        output_tokens_A=unknown_A,
        penalty_A=np.zeros(len(experts)),
        cost_scale_usd=1.0,
        latency_scale_s=1.0,
    )


def practice(count: int, seed: int, noise: float, unseen: str = "") -> Practice:
    expected_NA, score_NA = world(count, seed, noise)
    score_NA[:, [expert == unseen for expert in EXPERTS]] = np.nan
    queries = tuple(query(expected_A) for expected_A in np.clip(expected_NA, 0, 1))
    unknown_NA = np.full(score_NA.shape, np.nan)
    composed = frozenset(name for name in EXPERTS if name.startswith("team"))
    return Practice(queries, score_NA, unknown_NA, np.ones(score_NA.shape), composed)


def value(policy: CautiousPolicy | GreedyUtilityPolicy, seen: Practice) -> float:
    chosen = [policy.distribution(each, ANYTHING)[0].argmax() for each in seen.queries]
    return float(seen.score_NA[np.arange(len(seen)), chosen].mean())


def test_the_policy_is_as_bold_as_would_have_paid_on_the_rehearsal() -> None:
    fitted = CautiousPolicy().fit(practice(2000, 0, 0.1), ANYTHING)
    assert fitted.composed_margin > 0
    new = practice(4000, 1, 0.1)
    assert value(fitted, new) > value(GreedyUtilityPolicy(), new) + 0.02
    assert value(fitted, new) > new.score_NA.mean(axis=0).max() + 0.02


def test_the_usual_one_has_outcomes_and_may_be_named() -> None:
    seen = practice(1000, 0, 0.0, unseen="team2")
    assert CautiousPolicy().fit(seen, ANYTHING).usual != "team2"
    assert CautiousPolicy("b").fit(seen, ANYTHING).usual == "b"
    with pytest.raises(TableError, match="no outcome of team2"):
        CautiousPolicy("team2").fit(seen, ANYTHING)
    with pytest.raises(TableError, match="no expert 'ghost'"):
        CautiousPolicy("ghost").fit(seen, ANYTHING)


def test_without_end_is_always_the_usual_one_while_it_can_be_asked() -> None:
    usual = CautiousPolicy("b", WITHOUT_END, WITHOUT_END, ("team1",))
    best_A = np.array([0.6, 0.5, 0.9, 0.1, 0.1, 0.1])
    assert usual.distribution(query(best_A), ANYTHING)[0].argmax() == 1
    others = query(np.array([0.6, 0.9]), ("a", "team1"))
    assert usual.distribution(others, ANYTHING)[0].argmax() == 0
    wished = Preference(min_quality=0.55)
    assert usual.distribution(query(best_A), wished)[0].argmax() == 0
