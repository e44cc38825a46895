"""A new expert is admitted on a few probes to pools of real models: it must not cost quality."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from eval.tables.sources import read_outcomes
from routers.base import OpenPoolEstimator
from routers.features import Featurizer
from routers.records import Estimates, FeatureBatch, Floats, OutcomeTable
from routers.registry import make_encoder, make_estimator, make_wrapper

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "routerdc7b.parquet"
ROWS = 2500
JUDGED = 1500
DRAWS = 8
PROBES = (25, 50, 100)
# Of a task with fewer queries the mean says nothing to a point.
LEAST_OF_A_TASK = 40

pytestmark = pytest.mark.skipif(not DATA.exists(), reason=f"no outcome data at {DATA}")


@pytest.fixture(scope="module")
def world() -> tuple[FeatureBatch, OutcomeTable, FeatureBatch, OutcomeTable]:
    """Outcomes of seven models: a part to learn from, and the held-out ones."""
    outcomes = read_outcomes(DATA)
    splits_N = np.array(outcomes.splits)
    rows = np.random.default_rng(0).permutation(np.flatnonzero(splits_N == "train"))[:ROWS]
    train = outcomes.table.take(np.sort(rows))
    held_out = np.random.default_rng(0).permutation(np.flatnonzero(splits_N == "dev"))[:JUDGED]
    dev = outcomes.table.take(np.sort(held_out))
    encoder = Featurizer(make_encoder("tfidf")).fit(train.prompts, np.random.default_rng(0))
    return encoder.transform(train.prompts), train, encoder.transform(dev.prompts), dev


def only(table: OutcomeTable, columns: list[int]) -> OutcomeTable:
    """The table with some of its experts."""
    arrays = {
        each.name: getattr(table, each.name)[:, columns]
        for each in fields(table)
        if each.name.endswith("_NA")
    }
    return replace(table, experts=tuple(table.experts[c] for c in columns), **arrays)


def macro(found: Estimates, quality_NA: Floats, dev: OutcomeTable) -> float:
    """Mean over the tasks of what the best of `quality_NA` scored, in points."""
    column_of = np.array([dev.experts.index(expert) for expert in found.experts])
    chosen_N = column_of[quality_NA.argmax(axis=1)]
    score_N = dev.score_NA[np.arange(len(dev)), chosen_N]
    tasks_N = np.array(dev.tasks)
    names, counts = np.unique(tasks_N, return_counts=True)
    kept = names[counts >= LEAST_OF_A_TASK]
    return 100 * float(np.mean([score_N[tasks_N == name].mean() for name in kept]))


@pytest.mark.slow
def test_admission_costs_at_most_a_point_where_the_mean_costs_several(
    world: tuple[FeatureBatch, OutcomeTable, FeatureBatch, OutcomeTable],
) -> None:
    unfitted = make_wrapper("safe", make_estimator("ridge"))
    features, train, unseen, dev = world
    bounded: list[float] = []
    at_mean: list[float] = []
    for held_out, expert in enumerate(train.experts):
        old = only(train, [c for c in range(len(train.experts)) if c != held_out])
        new = only(train, [held_out])
        known = unfitted.fit(features, old, np.random.default_rng(0))
        before = known.predict(unseen)
        without = macro(before, before.quality_NA, dev)
        for count in PROBES:
            gains, naive = [], []
            for draw in range(DRAWS):
                rows = np.random.default_rng(draw).choice(len(new), count, replace=False)
                opened = cast(OpenPoolEstimator, known)
                after = opened.add_expert(expert, features.take(rows), new.take(rows))
                found = after.predict(unseen)
                likely_NA = found.quality_NA.copy()
                likely_NA[:, held_out] += found.stderr_NA[:, held_out]
                gains.append(macro(found, found.quality_NA, dev) - without)
                naive.append(macro(found, likely_NA, dev) - without)
            bounded.append(float(np.mean(gains)))
            at_mean.append(float(np.mean(naive)))
    assert min(bounded) >= -1.0
    assert np.mean(bounded) >= -0.1
    assert min(at_mean) < -2.0
    assert np.mean(at_mean) < np.mean(bounded) - 0.2
