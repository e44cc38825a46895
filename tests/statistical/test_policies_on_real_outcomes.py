"""What floor, budget and conformal promise in training holds on queries of the other split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from eval.replay.replay import candidates_per_query, cards_of, choices, measure
from eval.tables.pool import TrainTestPool, make_pool
from eval.tables.sources import read_outcomes
from routers.base import FittedPolicy
from routers.fitting.fit import fit_router
from routers.fitting.practice import Practice
from routers.policies.budget import BudgetPolicy
from routers.policies.conformal import ConformalPolicy
from routers.policies.floor import FloorPolicy
from routers.records import Candidates, Floats, Preference

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "mmlu_pro.parquet"
ANYTHING = Preference()

pytestmark = pytest.mark.skipif(not DATA.exists(), reason=f"no outcome data at {DATA}")


@pytest.fixture(scope="module")
def pool() -> TrainTestPool:
    """Every fifth training query, and those of `dev` that everybody answered."""
    rows = pd.read_parquet(DATA, columns=["query_id", "split"]).drop_duplicates("query_id")
    split = dict(zip(rows["query_id"], rows["split"], strict=True))
    table = read_outcomes(DATA).table
    side_N = np.array([split[query] for query in table.query_ids])
    whole_N = ~np.isnan(table.score_NA).any(axis=1)
    train = np.flatnonzero(side_N == "train")[::5]
    dev = np.flatnonzero((side_N == "dev") & whole_N)
    return make_pool(table.take(train), table.take(dev), None)


@pytest.fixture(scope="module")
def fitted(pool: TrainTestPool) -> tuple[Practice, list[Candidates]]:
    router = fit_router("r", "knn", pool.train, seed=0)
    cards = cards_of(pool.prices)
    estimates = router.estimate(pool.test.prompts)
    queries = candidates_per_query(router, pool.test.prompts, estimates, cards)
    return router.practice(cards, ANYTHING), queries


def chances(policy: FittedPolicy, fitted: tuple[Practice, list[Candidates]]) -> Floats:
    practice, queries = fitted
    return choices(policy.fit(practice, ANYTHING), queries, ANYTHING)


@pytest.mark.parametrize("share", [0.9, 0.95, 0.99])
def test_a_floor_holds_at_a_lower_cost(
    share: float, pool: TrainTestPool, fitted: tuple[Practice, list[Candidates]]
) -> None:
    best = int(np.nanmean(pool.train.score_NA, axis=0).argmax())
    reached = measure(pool.test, chances(FloorPolicy(share), fitted))
    score_N = pool.test.score_NA[:, best]
    spare_N = reached.quality_N - share * score_N
    # Two standard errors of the test side; the promise itself is one-sided.
    assert spare_N.mean() >= -2 * spare_N.std() / np.sqrt(len(spare_N))
    assert reached.cost_usd < pool.test.cost_usd_NA[:, best].mean()


@pytest.mark.parametrize("part", [0.2, 0.4, 0.8])
def test_a_budget_is_met(
    part: float, pool: TrainTestPool, fitted: tuple[Practice, list[Candidates]]
) -> None:
    best = int(np.nanmean(pool.train.score_NA, axis=0).argmax())
    usd = part * float(np.nanmean(pool.train.cost_usd_NA[:, best]))
    reached = measure(pool.test, chances(BudgetPolicy(usd), fitted))
    stderr = reached.cost_N.std() / np.sqrt(len(pool.test))
    assert abs(reached.cost_usd - usd) <= 0.02 * usd + 2.5 * stderr


@pytest.mark.parametrize("wrong", [0.05, 0.1, 0.2])
def test_the_cheap_expert_keeps_no_more_wrong_than_allowed(
    wrong: float, pool: TrainTestPool, fitted: tuple[Practice, list[Candidates]]
) -> None:
    practice, queries = fitted
    policy = ConformalPolicy(wrong).fit(practice, ANYTHING)
    cheap = practice.column(policy.cheap)
    kept_N = choices(policy, queries, ANYTHING)[:, cheap] == 1
    lost_N = kept_N * (1 - pool.test.score_NA[:, cheap])
    assert lost_N.mean() <= wrong + 2 * np.sqrt(wrong * (1 - wrong) / len(lost_N))
    assert kept_N.any()
