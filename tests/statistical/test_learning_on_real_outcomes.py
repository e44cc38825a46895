"""A router that learns from its own answers, on real outcomes of real models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from eval.simulate import World, play
from eval.tables.sources import read_outcomes
from routers.base import OnlineEstimator
from routers.encoders.lexical import TfidfSvdEncoder
from routers.estimators.knn import KnnEstimator
from routers.features import Featurizer
from routers.policies.bounds import OptimisticPolicy
from routers.registry import make_estimator

SEVEN = Path(__file__).parents[2].parent / "shared" / "data" / "routerdc7b.parquet"
ROWS, STREAM, WARM = 10_000, 6000, 2000

pytestmark = [
    pytest.mark.skipif(not SEVEN.exists(), reason=f"no outcome data at {SEVEN}"),
    pytest.mark.slow,
]


@pytest.fixture(scope="module")
def world() -> World:
    found = read_outcomes(SEVEN)
    train = np.array([row for row, split in enumerate(found.splits) if split == "train"])
    rows = np.random.default_rng(0).permutation(train)[:ROWS]
    table = found.table.take(rows)
    encoder = TfidfSvdEncoder().fit(table.prompts[STREAM : STREAM + WARM], np.random.default_rng(0))
    return World.recorded(Featurizer(encoder).transform(table.prompts), table)


def warmed(name: str, world: World, rows: int) -> OnlineEstimator:
    first = world.take(np.arange(STREAM, STREAM + rows))
    fitted = make_estimator(name).fit(first.features, first.table, np.random.default_rng(0))
    assert isinstance(fitted, OnlineEstimator)
    return fitted


@pytest.mark.parametrize("name", ["linucb", "thompson"])
def test_warm_and_on_its_own_answers_it_reaches_a_knn_that_saw_every_score(
    name: str, world: World
) -> None:
    stream, known = world.take(np.arange(STREAM)), world.take(np.arange(STREAM, ROWS))
    scores_NA, every = stream.table.score_NA, np.arange(STREAM)
    knn = KnnEstimator(k=100).fit(known.features, known.table, np.random.default_rng(0))
    chosen_N = knn.predict(stream.features).quality_NA.argmax(axis=1)
    knn_reached = scores_NA[every, chosen_N].mean()
    one_error = scores_NA[every, chosen_N].std() / np.sqrt(STREAM)
    best_single = scores_NA[:, known.table.score_NA.mean(axis=0).argmax()].mean()
    played = play(warmed(name, world, WARM), stream, seed=0, policy=OptimisticPolicy(0.5), batch=50)
    assert played.score_N.mean() >= knn_reached - one_error
    assert played.score_N.mean() > best_single + 2 * one_error
