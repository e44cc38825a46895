"""The default router on real outcomes: better where it can be, the best single expert elsewhere."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from eval.metrics.calibration import calibration
from eval.replay.baselines import singles
from eval.tables.sources import Outcomes, read_outcomes
from routers.estimators.folds import group_folds, others
from routers.fitting.fit import fit_router
from routers.records import Floats, OutcomeTable
from routers.registry import DEFAULT_ESTIMATOR

DATA = Path(__file__).parents[2].parent / "shared" / "data"

pytestmark = pytest.mark.skipif(not DATA.exists(), reason=f"no outcome data at {DATA}")


@lru_cache(maxsize=1)
def read(name: str) -> Outcomes:
    return read_outcomes(DATA / f"{name}.parquet")


def sides(name: str) -> tuple[OutcomeTable, OutcomeTable]:
    outcomes = read(name)
    split_N = np.array(outcomes.splits)
    train, dev = (np.flatnonzero(split_N == split) for split in ("train", "dev"))
    return outcomes.table.take(train), outcomes.table.take(dev)


def a_few(name: str, rows: int, seed: int) -> tuple[OutcomeTable, OutcomeTable]:
    """About so many rows to learn from, and all others."""
    table = read(name).table
    folds = group_folds(table.groups, round(len(table) / rows), np.random.default_rng(seed))
    return table.take(folds[0]), table.take(others(folds[0], len(table)))


def gain(train: OutcomeTable, test: OutcomeTable, estimator: str) -> tuple[float, float]:
    """Mean gain over the best single expert in points, and its standard error by groups."""
    router = fit_router("r", estimator, train, seed=0)
    quality_NA = np.nan_to_num(router.estimate(test.prompts).quality_NA, nan=-1.0)
    chosen_N = test.score_NA[np.arange(len(test)), quality_NA.argmax(axis=1)]
    gain_N: Floats = 100 * (chosen_N - test.score_NA[:, singles(train).best])
    known_N = ~np.isnan(gain_N)
    _, group_N = np.unique(np.array(test.groups)[known_N], return_inverse=True)
    mean = float(gain_N[known_N].mean())
    sums = np.bincount(group_N, gain_N[known_N] - mean)
    return mean, float(np.sqrt((sums**2).sum()) / known_N.sum())


@pytest.mark.parametrize("name", ["bfcl", "mot_cascade", "routerbench_slice"])
def test_from_two_hundred_rows_it_loses_no_point_to_the_best_single_expert(name: str) -> None:
    assert gain(*a_few(name, 200, seed=0), DEFAULT_ESTIMATOR)[0] > -1.0


def test_among_seventy_experts_nearly_alike_it_loses_no_point() -> None:
    assert gain(*sides("bfcl"), DEFAULT_ESTIMATOR)[0] > -1.0


def test_from_a_log_that_mostly_asked_one_expert_it_loses_no_point() -> None:
    train, dev = sides("bfcl")
    rng = np.random.default_rng(0)
    chance_A = np.full(len(train.experts), 0.3 / len(train.experts))
    chance_A[singles(train).best] += 0.7
    asked_N = rng.choice(len(chance_A), size=len(train), p=chance_A)
    hidden_NA = np.arange(len(chance_A)) != asked_N[:, None]
    logged = replace(
        train,
        score_NA=np.where(hidden_NA, np.nan, train.score_NA),
        propensity_NA=np.where(hidden_NA, 1.0, chance_A),
    )
    quality_NA = fit_router("r", DEFAULT_ESTIMATOR, logged, seed=0).estimate(dev.prompts).quality_NA
    chosen_N = dev.score_NA[np.arange(len(dev)), np.nan_to_num(quality_NA, nan=-1.0).argmax(axis=1)]
    best_N = dev.score_NA[:, singles(train).best]
    assert chosen_N.mean() > best_N.mean() - 0.01


@pytest.mark.slow
def test_it_beats_the_best_single_expert_by_two_standard_errors() -> None:
    mean, stderr = gain(*sides("llmrouter"), DEFAULT_ESTIMATOR)
    assert mean > 2 * stderr


def test_neighbours_expect_what_comes_once_they_are_calibrated() -> None:
    train, dev = sides("llmrouter")
    router = fit_router("r", "knn", train, seed=0)
    found = calibration(router.estimate(dev.prompts).quality_NA, dev.score_NA)
    assert found is not None
    assert found.ece < 0.03


@pytest.mark.slow
def test_regressing_scores_beats_classifying_who_is_best() -> None:
    train, dev = sides("llmrouter")
    # The label that a classifier learns: the first of those that are best.
    label_NA = np.zeros_like(train.score_NA)
    label_NA[np.arange(len(train)), np.nan_to_num(train.score_NA, nan=-1).argmax(axis=1)] = 1.0
    by_score = gain(train, dev, "knn")[0]
    router = fit_router("r", "knn", replace(train, score_NA=label_NA), seed=0, calibrate=False)
    chosen = router.estimate(dev.prompts).quality_NA.argmax(axis=1)
    best_N = dev.score_NA[:, singles(train).best]
    by_label = 100 * (dev.score_NA[np.arange(len(dev)), chosen] - best_N).mean()
    assert by_score > by_label + 2.0
