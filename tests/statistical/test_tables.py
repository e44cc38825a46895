"""Tables by region find what was planted in them, and hold up on outcomes of real models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from eval.tables.sources import read_outcomes
from routers.estimators import category
from routers.estimators.category import CategoryEstimator
from routers.estimators.cluster import ClusterEstimator
from routers.estimators.guarded import GuardedEstimator
from routers.estimators.observed import observed
from routers.estimators.pilot import PilotEstimator, winners
from routers.estimators.prior import PriorEstimator
from routers.features import Featurizer
from routers.policies.greedy import GreedyUtilityPolicy
from routers.records import Candidates, FeatureBatch, Floats, OutcomeTable, Preference, Vectors
from routers.registry import make_encoder

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "routerdc7b.parquet"
FOREIGN = ("cmmlu", "ceval")
HOME = ("mmlu", "gsm8k", "arc_challenge", "cmmlu")
ROWS = 3000
FEWER = 2000

Rows = npt.NDArray[np.intp]


def table_of(score_NA: Floats, tasks: tuple[str | None, ...]) -> OutcomeTable:
    ids = tuple(f"q{row:05d}" for row in range(len(score_NA)))
    unknown_NA = np.full_like(score_NA, np.nan)
    experts = tuple("abcdefgh"[: score_NA.shape[1]])
    return OutcomeTable(
        ids, ids, tasks, ids, experts, score_NA,
        unknown_NA, unknown_NA, unknown_NA, unknown_NA, np.ones_like(score_NA),
    )  # fmt: skip


@dataclass(frozen=True)
class Mixture:
    """Gaussian regions on a sphere, each with an expert of its own that wins there.

    Attributes:
        features: Vectors.
        table: What was observed.
        home_N: Region of each query, and its best column.
        truth_NA: P(right).
    """

    features: FeatureBatch
    table: OutcomeTable
    home_N: Rows
    truth_NA: Floats


def a_mixture(rows: int, seed: int, regions: int = 4, noise: float = 0.0) -> Mixture:
    """`noise` is the share of task labels that name another region."""
    chance = np.random.default_rng(seed)
    centres_RD = np.random.default_rng(0).standard_normal((regions, 12))
    home_N = chance.integers(regions, size=rows)
    vectors_ND = centres_RD[home_N] + chance.normal(0, 0.8, (rows, 12))
    vectors_ND /= np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    truth_NA = np.where(home_N[:, None] == np.arange(regions), 0.9, 0.3)
    score_NA = (chance.random(truth_NA.shape) < truth_NA).astype(np.float64)
    moved_N = chance.random(rows) < noise
    said_N = np.where(moved_N, (home_N + chance.integers(1, regions, rows)) % regions, home_N)
    tasks = tuple(f"task-{said}" for said in said_N)
    features = FeatureBatch(("",) * rows, vectors_ND.astype(np.float32), np.full(rows, 10.0))
    return Mixture(features, table_of(score_NA, tasks), home_N, truth_NA)


def reached(quality_NA: Floats, truth_NA: Floats) -> float:
    return float(truth_NA[np.arange(len(truth_NA)), quality_NA.argmax(axis=1)].mean())


def test_labels_that_neighbours_contradict_are_better_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    noisy, clean = a_mixture(600, seed=1, noise=0.2), a_mixture(600, seed=2)
    rng = np.random.default_rng(0)
    denoised = CategoryEstimator().fit(noisy.features, noisy.table, rng)
    assert 0.1 < denoised.dropped_share < 0.25
    monkeypatch.setattr(category, "trusted_labels", lambda vectors, *_: np.ones(len(vectors), bool))
    plain = CategoryEstimator().fit(noisy.features, noisy.table, np.random.default_rng(0))
    names = np.array([f"task-{home}" for home in clean.home_N])

    def sure(fitted: CategoryEstimator) -> float:
        """Probability of the right category."""
        share_NC = fitted.category_shares(clean.features)
        return float(share_NC[names[:, None] == np.array(fitted.categories)].mean())

    def error(fitted: CategoryEstimator) -> float:
        found = fitted.predict(clean.features).quality_NA
        return float(np.abs(found - clean.truth_NA).mean())

    assert sure(denoised) > sure(plain) + 0.05
    assert error(denoised) < error(plain) - 0.02


def test_pilots_reach_the_oracle_where_each_region_has_a_winner() -> None:
    train, test = a_mixture(1200, seed=3), a_mixture(600, seed=4)
    fitted = PilotEstimator().fit(train.features, train.table, np.random.default_rng(0))
    best = float(test.truth_NA.max(axis=1).mean())
    assert reached(fitted.predict(test.features).quality_NA, test.truth_NA) >= 0.95 * best


def choices(quality_A: Floats, cost_A: Floats, cost_weight: float) -> int:
    """Whom the greedy policy prefers."""
    candidates = Candidates(
        experts=tuple("abcdefgh"[: len(quality_A)]),
        quality_A=quality_A,
        stderr_A=np.full(len(quality_A), 0.05),
        cost_usd_A=cost_A,
        latency_s_A=np.full(len(quality_A), np.nan),
        output_tokens_A=np.full(len(quality_A), 100.0),
        penalty_A=np.zeros(len(quality_A)),
        cost_scale_usd=float(cost_A.max()),
        latency_scale_s=1.0,
    )
    probabilities_A, _ = GreedyUtilityPolicy().distribution(
        candidates, Preference(cost_weight=cost_weight)
    )
    return int(probabilities_A.argmax())


def test_from_quality_alone_to_cost_alone_spending_falls() -> None:
    train, test = a_mixture(1200, seed=5), a_mixture(200, seed=6)
    fitted = ClusterEstimator(clusters=8, seeds=2, nearest=1).fit(
        train.features, train.table, np.random.default_rng(0)
    )
    quality_NA = fitted.predict(test.features).quality_NA
    cost_A = np.array([1.0, 2.0, 4.0, 8.0])
    spent = []
    for cost_weight in (0.0, 0.2, 0.5, 1.0, 3.0, 1000.0):
        chosen_N = np.array([choices(row_A, cost_A, cost_weight) for row_A in quality_NA])
        spent.append(cost_A[chosen_N].mean())
        if cost_weight == 0.0:
            np.testing.assert_array_equal(chosen_N, quality_NA.argmax(axis=1))
    assert (np.diff(spent) <= 1e-9).all()
    assert spent[-1] == 1.0
    assert spent[0] > 3.0


def test_two_clusters_go_to_the_best_of_each_by_means_and_by_ranks() -> None:
    score_NA = np.tile([[1.0, 0.5, 0.0], [0.0, 0.25, 1.0]], (50, 1))
    vectors_ND: Vectors = np.tile(np.eye(2, dtype=np.float32), (50, 1))
    features = FeatureBatch(("",) * 100, vectors_ND, np.full(100, 10.0))
    table = table_of(score_NA, (None,) * 100)
    rng = np.random.default_rng(0)
    found = {
        how: ClusterEstimator(clusters=2, seeds=1, nearest=1, aggregation=how)
        .fit(features, table, rng)
        .predict(features.take(np.arange(2)))
        .quality_NA
        for how in ("mean", "rank")
    }
    for quality_NA in found.values():
        assert quality_NA.argmax(axis=1).tolist() == [0, 2]
    np.testing.assert_allclose(found["rank"], [[1, 1 / 2, 1 / 3], [1 / 3, 1 / 2, 1]])
    assert found["mean"][0, 0] > 0.8


real = pytest.mark.skipif(not DATA.exists(), reason=f"no outcome data at {DATA}")


@dataclass(frozen=True)
class Real:
    """Outcomes of seven models, and their held-out ones."""

    features: FeatureBatch
    table: OutcomeTable
    unseen: FeatureBatch
    dev: OutcomeTable

    def points(self, chosen_N: Rows, tasks: tuple[str, ...]) -> float:
        """Mean over the tasks of the chosen expert's score, in points."""
        score_N = self.dev.score_NA[np.arange(len(self.dev)), chosen_N]
        names_N = np.array(self.dev.tasks)
        return 100 * float(np.mean([score_N[names_N == task].mean() for task in tasks]))

    def best_single(self, tasks: tuple[str, ...]) -> float:
        column = int(np.nanmean(self.table.score_NA, axis=0).argmax())
        return self.points(np.full(len(self.dev), column), tasks)


@pytest.fixture(scope="module")
def outcomes() -> tuple[OutcomeTable, OutcomeTable]:
    found = read_outcomes(DATA)
    splits_N = np.array(found.splits)
    train, dev = (found.table.take(np.flatnonzero(splits_N == name)) for name in ("train", "dev"))
    return train, dev


def sampled(
    outcomes: tuple[OutcomeTable, OutcomeTable], seed: int, without: tuple[str, ...], count: int
) -> Real:
    """`count` rows of tasks other than `without` to learn from, and about as many to judge by."""
    train, dev = outcomes
    chance = np.random.default_rng(seed)
    dev = dev.take(np.sort(chance.permutation(len(dev))[:count]))
    rows = np.flatnonzero(~np.isin(np.array(train.tasks), without))
    train = train.take(np.sort(chance.permutation(rows)[:count]))
    encoder = Featurizer(make_encoder("tfidf")).fit(train.prompts, chance)
    return Real(encoder.transform(train.prompts), train, encoder.transform(dev.prompts), dev)


@pytest.fixture(scope="module")
def everything(outcomes: tuple[OutcomeTable, OutcomeTable]) -> Real:
    return sampled(outcomes, 0, (), ROWS)


@real
def test_tables_of_tasks_and_of_clusters_beat_the_best_single_expert(everything: Real) -> None:
    best_single = everything.best_single(HOME)
    for estimator, gain in ((CategoryEstimator(), 2.5), (ClusterEstimator(), 1.5)):
        fitted = estimator.fit(everything.features, everything.table, np.random.default_rng(0))
        chosen_N = fitted.predict(everything.unseen).quality_NA.argmax(axis=1)
        assert everything.points(chosen_N, HOME) >= best_single + gain


@real
def test_pilots_with_scores_beat_pilots_with_winners(everything: Real) -> None:
    fitted = PilotEstimator().fit(everything.features, everything.table, np.random.default_rng(0))
    weighted_N = fitted.predict(everything.unseen).quality_NA.argmax(axis=1)
    votes_N = winners(observed(everything.features, everything.table), 1e-9)
    tasks_N = np.array(everything.table.tasks)
    pilots, owners = [], []
    for task in np.unique(tasks_N):
        for expert in np.unique(votes_N[votes_N >= 0]):
            won_N = (tasks_N == task) & (votes_N == expert)
            if won_N.any():
                pilots.append(everything.features.vectors_ND[won_N].mean(axis=0))
                owners.append(expert)
    alike_NR = everything.unseen.vectors_ND @ np.stack(pilots).T
    by_winner_N = np.array(owners)[alike_NR.argmax(axis=1)]
    assert everything.points(weighted_N, HOME) >= everything.points(by_winner_N, HOME) + 1.0


@real
def test_another_language_is_unfamiliar_and_a_held_out_query_is_not(
    outcomes: tuple[OutcomeTable, OutcomeTable],
) -> None:
    world = sampled(outcomes, 0, FOREIGN, FEWER)
    guard = GuardedEstimator(PriorEstimator())
    fitted = guard.fit(world.features, world.table, np.random.default_rng(0))
    foreign_N = np.isin(np.array(world.dev.tasks), FOREIGN)
    unfamiliar_N = fitted.unfamiliar(world.unseen)
    assert unfamiliar_N[foreign_N].mean() > 0.5
    assert unfamiliar_N[~foreign_N].mean() < 0.03
