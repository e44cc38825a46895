"""Routers in worlds whose truth is known: each learned estimator must find it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.neighbors import KNeighborsClassifier

from experts.cards import ExpertCard, Prices
from experts.messages import ChatRequest, Message
from routers.eligible import Constraints
from routers.fitting.fit import fit_router
from routers.records import Floats, OutcomeTable, Preference
from routers.router import Router

REGIONS = {
    "law": "court judge statute appeal contract tort verdict plea clause treaty",
    "biology": "cell membrane protein enzyme gene mitosis neuron virus tissue plasma",
    "physics": "force energy momentum quantum field wave photon inertia torque entropy",
    "history": "empire king treaty war revolt dynasty colony reform siege crusade",
}
COMMON = [
    "what",
    "which",
    "how",
    "does",
    "the",
    "following",
    "best",
    "explain",
    "why",
    "most",
    "likely",
    "cause",
    "result",
    "of",
]
EXPERTS = tuple(f"{region}-expert" for region in sorted(REGIONS))
LEARNED = ["knn", "ridge", "category", "cluster", "average", "logistic", "mlp", "bilinear"]
# Those that learn on are not calibrated: a curve fitted once would not follow them.
ONLINE = ["linucb", "online"]


@dataclass(frozen=True)
class World:
    """Expert i is right with probability .85 in region i and .45 elsewhere.

    Attributes:
        table: What was observed.
        home_N: The region of each query, which is the best expert's column.
        truth_NA: P(right).
    """

    table: OutcomeTable
    home_N: npt.NDArray[np.intp]
    truth_NA: Floats

    def value(self, columns_N: npt.NDArray[np.intp]) -> float:
        return float(self.truth_NA[np.arange(len(columns_N)), columns_N].mean())


def a_world(rows: int, seed: int, *, at_home: float = 0.85, away: float = 0.45) -> World:
    rng = np.random.default_rng(seed)
    names = sorted(REGIONS)
    home_N = rng.integers(len(names), size=rows)
    prompts = tuple(
        " ".join([*rng.choice(REGIONS[names[home]].split(), 5), *rng.choice(COMMON, 8)])
        for home in home_N
    )
    truth_NA = np.where(home_N[:, None] == np.arange(len(names)), at_home, away)
    score_NA = (rng.random(truth_NA.shape) < truth_NA).astype(np.float64)
    ids = tuple(f"{seed}-{i:05d}" for i in range(rows))
    unknown_NA = np.full_like(score_NA, np.nan)
    table = OutcomeTable(
        query_ids=ids,
        prompts=prompts,
        tasks=tuple(names[home] for home in home_N),
        groups=ids,
        experts=EXPERTS,
        score_NA=score_NA,
        prompt_tokens_NA=unknown_NA,
        output_tokens_NA=unknown_NA,
        cost_usd_NA=unknown_NA,
        latency_s_NA=unknown_NA,
        propensity_NA=np.ones_like(score_NA),
    )
    return World(table, home_N, truth_NA)


@pytest.fixture(scope="module")
def train() -> World:
    return a_world(1200, seed=1)


@cache
def calibrated(name: str) -> Router:
    """Fitted on what `train` is, once for all tests: some take seconds."""
    return fit_router("r", name, a_world(1200, seed=1).table, seed=0)


@pytest.fixture(scope="module")
def test() -> World:
    return a_world(600, seed=2)


def preferred(router: Router, world: World) -> npt.NDArray[np.intp]:
    columns_N: npt.NDArray[np.intp] = router.estimate(world.table.prompts).quality_NA.argmax(axis=1)
    return columns_N


@pytest.mark.parametrize("name", [*LEARNED, *ONLINE, "pairwise"])
def test_it_finds_the_planted_regions_and_beats_the_best_single_expert(
    name: str, test: World
) -> None:
    columns_N = preferred(calibrated(name), test)
    best_single = test.truth_NA.mean(axis=0).max()
    assert (columns_N == test.home_N).mean() >= 0.95
    assert test.value(columns_N) > best_single + 0.25


def test_the_prior_is_the_best_single_expert(train: World, test: World) -> None:
    columns_N = preferred(fit_router("r", "prior", train.table, seed=0), test)
    assert set(columns_N) == {int(train.table.score_NA.mean(axis=0).argmax())}


def logged(world: World, seed: int) -> OutcomeTable:
    """One expert asked per query: 70 % of the traffic to one favourite, the rest at random."""
    rng = np.random.default_rng(seed)
    count, experts = world.truth_NA.shape
    share_A: Floats = np.full(experts, 0.3 / experts)
    share_A[0] += 0.7
    asked_N = rng.choice(np.arange(experts), size=count, p=share_A)
    seen_NA = np.arange(experts) == asked_N[:, None]
    return replace(
        world.table,
        score_NA=np.where(seen_NA, world.table.score_NA, np.nan),
        propensity_NA=np.where(seen_NA, share_A, np.nan),
    )


@pytest.mark.parametrize("name", [*LEARNED, *ONLINE])
def test_it_learns_from_logs_in_which_one_expert_answered_each_query(
    name: str, test: World
) -> None:
    table = logged(a_world(3000, seed=3), seed=4)
    router = fit_router("r", name, table, seed=0, calibrate=False)
    columns_N = preferred(router, test)
    assert (columns_N == test.home_N).mean() >= 0.9


def calibration_error(predicted_NA: Floats, world: World, bins: int = 10) -> float:
    bin_NA = np.minimum((predicted_NA * bins).astype(int), bins - 1)
    error = 0.0
    for place in range(bins):
        inside = bin_NA == place
        if inside.any():
            gap = predicted_NA[inside].mean() - world.table.score_NA[inside].mean()
            error += abs(gap) * inside.mean()
    return error


@pytest.mark.parametrize("name", LEARNED)
def test_calibrated_qualities_are_as_often_right_as_they_say(name: str, test: World) -> None:
    predicted_NA = calibrated(name).estimate(test.table.prompts)
    assert calibration_error(predicted_NA.quality_NA, test) < 0.04


@pytest.mark.parametrize("name", ["knn", *ONLINE])
def test_some_are_calibrated_without_help(name: str, train: World, test: World) -> None:
    router = fit_router("r", name, train.table, seed=0, calibrate=False)
    predicted_NA = router.estimate(test.table.prompts).quality_NA
    assert calibration_error(predicted_NA, test) < 0.06


def test_regressing_scores_beats_classifying_the_winner_where_ties_are_frequent() -> None:
    """Several are right on most queries, so the label "best expert" is the first one listed."""
    train = a_world(1500, seed=5, at_home=0.95, away=0.8)
    test = a_world(600, seed=6, at_home=0.95, away=0.8)
    router = fit_router("r", "knn", train.table, seed=0, calibrate=False)
    regressed = test.value(preferred(router, test))
    features = router.featurizer.transform(train.table.prompts)
    winners_N = train.table.score_NA.argmax(axis=1)
    classifier = KNeighborsClassifier(50).fit(features.vectors_ND, winners_N)
    asked = router.featurizer.transform(test.table.prompts)
    classified = test.value(classifier.predict(asked.vectors_ND))
    assert regressed > 0.93
    assert classified < regressed - 0.03


def test_decisions_are_drawn_as_often_as_their_propensity_says(train: World) -> None:
    router = fit_router("r", "ridge", train.table, seed=0, epsilon=0.2)
    cards = [ExpertCard(expert, prices=Prices(1.0, 1.0)) for expert in EXPERTS]
    request = ChatRequest((Message("user", train.table.prompts[0]),))
    decisions = [
        router.decide(
            request,
            cards,
            preference=Preference(),
            policy_name="best",
            constraints=Constraints(),
            unhealthy={},
            uniform=float(uniform),
        )
        for uniform in np.random.default_rng(0).random(1500)
    ]
    counts_A = np.bincount([decision.chosen for decision in decisions], minlength=len(EXPERTS))
    expected_A = decisions[0].probabilities_A
    stderr_A = np.sqrt(expected_A * (1 - expected_A) / len(decisions))
    assert (np.abs(counts_A / len(decisions) - expected_A) < 4 * stderr_A).all()


@pytest.mark.parametrize("name", [*LEARNED, *ONLINE, "pairwise"])
def test_a_claimed_standard_error_is_about_the_error_made(name: str, test: World) -> None:
    found = calibrated(name).estimate(test.table.prompts)
    error = np.sqrt(((found.quality_NA - test.truth_NA) ** 2).mean())
    assert 0.3 * error < found.stderr_NA.mean() < 4 * error
