"""Off-policy values of real outcomes, of which the truth is known, from logs made of them.

Every model answered every question, so a log is made by drawing one answer per question with known
chances; what a candidate would have been worth can then be counted and compared with the estimate.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from eval.ope.judge import judge
from eval.ope.logged import Logged
from eval.ope.rewards import rewards
from eval.ope.spread import normal
from eval.ope.values import ESTIMATORS, Parts
from eval.tables.sources import read_outcomes
from routers.encoders.lexical import TfidfSvdEncoder
from routers.features import Featurizer
from routers.records import FeatureBatch, Floats, OutcomeTable
from routers.registry import make_estimator

DATA = Path(__file__).parents[2].parent / "shared" / "data"
REPLICATES = 200
ROWS = 1500
EXPERTS = 7
EXPLORED = 0.5

pytestmark = [
    pytest.mark.skipif(not DATA.exists(), reason=f"no outcome data at {DATA}"),
    pytest.mark.slow,
]


@dataclass(frozen=True)
class World:
    """Questions that everybody answered, what serves, and a candidate.

    Attributes:
        features: Of the questions.
        table: All scores.
        served_NA: P(expert | question) of what serves: the best one, and half the time any.
        candidate_NA: The same of a router learned elsewhere, with a tenth of exploration.
    """

    features: FeatureBatch
    table: OutcomeTable
    served_NA: Floats
    candidate_NA: Floats

    @property
    def truth(self) -> float:
        return float((self.candidate_NA * self.table.score_NA).sum(axis=1).mean())

    def log(self, rng: np.random.Generator) -> Logged:
        cumulative_NA = self.served_NA.cumsum(axis=1)
        drawn_N = (rng.random((len(self.table), 1)) > cumulative_NA).sum(axis=1)
        seen_NA = np.arange(EXPERTS) == drawn_N[:, None]
        table = replace(
            self.table,
            score_NA=np.where(seen_NA, self.table.score_NA, np.nan),
            propensity_NA=np.where(seen_NA, self.served_NA, np.nan),
        )
        return Logged.of(table, self.served_NA)


def best_experts(table: OutcomeTable) -> OutcomeTable:
    """The table of the seven best experts on the questions that all of them answered."""
    kept = np.sort(np.argsort(-np.nanmean(table.score_NA, axis=0))[:EXPERTS])
    cells = {
        name: getattr(table, name)[:, kept]
        for name in (
            "score_NA", "prompt_tokens_NA", "output_tokens_NA", "cost_usd_NA", "latency_s_NA",
            "propensity_NA",
        )
    }  # fmt: skip
    narrow = replace(table, experts=tuple(table.experts[column] for column in kept), **cells)
    return narrow.take(np.flatnonzero(~np.isnan(narrow.score_NA).any(axis=1)))


def a_world(name: str) -> World:
    table = best_experts(read_outcomes(DATA / f"{name}.parquet").table)
    table = table.take(np.random.default_rng(0).permutation(len(table))[: 2 * ROWS])
    encoder = Featurizer(TfidfSvdEncoder(48)).fit(table.prompts, np.random.default_rng(0))
    features = encoder.transform(table.prompts)
    first, second = np.arange(ROWS), np.arange(ROWS, 2 * ROWS)
    learned = make_estimator("category").fit(
        features.take(first), table.take(first), np.random.default_rng(0)
    )
    asked = features.take(second)
    quality_NA = learned.predict(asked).quality_NA
    best = int(np.nanmean(table.score_NA[first], axis=0).argmax())
    served_A = np.full(EXPERTS, EXPLORED / EXPERTS)
    served_A[best] += 1 - EXPLORED
    greedy_NA = np.eye(EXPERTS)[quality_NA.argmax(axis=1)]
    return World(
        asked,
        table.take(second),
        np.tile(served_A, (ROWS, 1)),
        0.9 * greedy_NA + 0.1 / EXPERTS,
    )


@pytest.fixture(scope="module", params=["mmlu_pro", "routerdc7b"])
def world(request: pytest.FixtureRequest) -> World:
    return a_world(request.param)


def test_doubly_robust_values_are_right_on_average_and_as_sure_as_they_say(world: World) -> None:
    found: dict[str, list[tuple[float, bool]]] = {name: [] for name in ("dr", "ips", "snips", "dm")}
    for seed in range(REPLICATES):
        rng = np.random.default_rng(seed)
        logged = world.log(rng)
        known = rewards(logged, world.features, rng)
        parts = Parts.of(logged, world.candidate_NA, known.score_NA, known.score_model_NA)
        for name, results in found.items():
            terms = ESTIMATORS[name](parts)
            interval = normal(terms, logged.table.groups)
            assert interval is not None
            results.append(
                (terms.value - world.truth, interval.low <= world.truth <= interval.high)
            )
    errors = {name: np.array([error for error, _ in each]) for name, each in found.items()}
    covered = {name: np.mean([held for _, held in each]) for name, each in found.items()}
    assert abs(errors["dr"].mean()) < 0.01
    # What they claim, less three standard errors of so many replicates.
    assert covered["dr"] > 0.95 - 3 * np.sqrt(0.95 * 0.05 / REPLICATES)
    assert errors["dr"].std() < 1.05 * errors["ips"].std()
    assert abs(errors["dm"].mean()) > abs(errors["dr"].mean())


def test_a_candidate_that_asks_whom_nobody_asked_is_refused(world: World) -> None:
    lost = int(world.candidate_NA.sum(axis=0).argmax())
    served_NA = world.served_NA.copy()
    served_NA[:, lost] = 0
    served_NA /= served_NA.sum(axis=1, keepdims=True)
    rng = np.random.default_rng(0)
    logged = replace(world, served_NA=served_NA).log(rng)
    known = rewards(logged, world.features, rng)
    found = judge(logged, world.candidate_NA, known)
    assert found.values == {}
    assert any(repr(world.table.experts[lost]) in why for why in found.refused)
