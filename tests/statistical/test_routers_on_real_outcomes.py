"""Estimators on real outcomes of real models: no worse than what is known to be easy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from routers.features import Featurizer
from routers.records import FeatureBatch, Floats, OutcomeTable
from routers.registry import make_encoder, make_estimator

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "mmlu_pro.parquet"
COLUMNS = ["query_id", "task", "prompt", "model", "score", "dup_group", "split"]
# What plain text routers reach on these queries; the best single expert has .744.
KNOWN_TO_BE_EASY = 0.747

pytestmark = pytest.mark.skipif(not DATA.exists(), reason=f"no outcome data at {DATA}")


def split(name: str) -> OutcomeTable:
    rows = pd.read_parquet(DATA, columns=COLUMNS, filters=[("split", "==", name)])
    scores = rows.pivot_table(index="query_id", columns="model", values="score", sort=True)
    queries = rows.drop_duplicates("query_id").set_index("query_id").loc[scores.index]
    score_NA = scores.to_numpy(np.float64)
    unknown_NA = np.full_like(score_NA, np.nan)
    return OutcomeTable(
        tuple(scores.index),
        tuple(queries["prompt"]),
        tuple(queries["task"]),
        tuple(queries["dup_group"].fillna(queries.index.to_series())),
        tuple(scores.columns),
        score_NA,
        unknown_NA,
        unknown_NA,
        unknown_NA,
        unknown_NA,
        np.ones_like(score_NA),
    )


@pytest.fixture(scope="module")
def world() -> tuple[FeatureBatch, OutcomeTable, FeatureBatch, OutcomeTable]:
    train, dev = split("train"), split("dev")
    assert train.experts == dev.experts
    encoder = Featurizer(make_encoder("tfidf")).fit(train.prompts, np.random.default_rng(0))
    return encoder.transform(train.prompts), train, encoder.transform(dev.prompts), dev


def reached(quality_NA: Floats, dev: OutcomeTable) -> float:
    chosen_N = np.nan_to_num(quality_NA, nan=-1.0).argmax(axis=1)
    return float(np.nanmean(dev.score_NA[np.arange(len(dev)), chosen_N]))


@pytest.mark.parametrize("name", ["knn", "ridge", "category", "average"])
def test_it_reaches_what_plain_text_routers_reach(
    name: str, world: tuple[FeatureBatch, OutcomeTable, FeatureBatch, OutcomeTable]
) -> None:
    features, train, unseen, dev = world
    fitted = make_estimator(name).fit(features, train, np.random.default_rng(0))
    best_single = np.nanmean(dev.score_NA[:, np.nanmean(train.score_NA, axis=0).argmax()])
    quality = reached(fitted.predict(unseen).quality_NA, dev)
    assert quality >= KNOWN_TO_BE_EASY
    assert quality > best_single
