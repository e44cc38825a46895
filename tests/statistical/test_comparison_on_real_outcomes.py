"""A whole comparison on recorded answers of real models, where the data is at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from eval.compare import compare
from eval.tables.splits import TrainTest, read_train_test

DATA = Path(__file__).parents[2].parent / "shared" / "data"


def tables(name: str) -> TrainTest:
    path = DATA / f"{name}.parquet"
    if not path.exists():
        pytest.skip(f"needs {path.name} in ../shared/data")
    return read_train_test(path, path)


@pytest.mark.slow
def test_a_router_on_mmlu_pro_is_better_and_cheaper_than_the_best_model() -> None:
    found = tables("mmlu_pro")
    assert (len(found.train), len(found.test)) == (5879, 1499)
    comparison = compare(found.train, found.test, ["ridge"], data=found.data, notes=found.notes)
    ridge, best = comparison.router("ridge"), comparison.baselines["best_single"]
    assert best.expert == "gemini-1.5-pro-002"
    assert best.point.quality == pytest.approx(0.744, abs=0.001)
    assert ridge.figures["quality_max"] >= 0.750
    assert ridge.ci95["delta_aiq_vs_zero_router"].low > 0.01
    assert 0.53 < ridge.figures["apgr"] < 0.65
    assert ridge.calibration is not None
    assert ridge.calibration.ece < 0.03
    assert ridge.verdict.pays in ("yes", "likely")
    assert comparison.baselines["oracle"].point.quality == pytest.approx(0.961, abs=0.001)


@pytest.mark.slow
def test_a_pool_without_costs_is_compared_on_quality_alone() -> None:
    found = tables("llmrouter")
    comparison = compare(found.train, found.test, ["knn"])
    knn, best = comparison.router("knn"), comparison.baselines["best_single"]
    assert not comparison.costs_known
    assert knn.figures["quality_max"] > best.point.quality
    assert np.isnan(knn.figures["aiq"])
    assert comparison.baselines["task_oracle"].point.quality == pytest.approx(0.714, abs=0.002)


@pytest.mark.parametrize(
    ("name", "queries", "experts", "notes"),
    [
        ("bfcl", 970, 71, 0),
        ("mot_cascade", 1865, 16, 1),
        ("routellm", 11611, 2, 0),
        ("routerbench_slice", 2325, 11, 1),
    ],
)
def test_every_outcome_file_is_read_whole(
    name: str, queries: int, experts: int, notes: int
) -> None:
    found = tables(name)
    assert len(found.train) + len(found.test) == queries
    assert len(found.train.experts) == experts
    assert len(found.notes) == notes
    assert not set(found.train.groups) & set(found.test.groups)
