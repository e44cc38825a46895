"""What every estimator owes its users, wrapped in a calibration or not."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from routers.base import Estimator
from routers.encoders.lexical import HashingEncoder
from routers.errors import TableError
from routers.estimators.calibrated import CalibratedEstimator
from routers.features import Featurizer
from routers.fitting.fit import fit_router
from routers.records import FeatureBatch, Floats, OutcomeTable
from routers.registry import estimator_names, make_estimator, make_wrapper, wrapper_names
from routers.router import Router
from routers.storage.artifacts import load_router, save_router

WORDS = {"law": "judge court tort appeal", "gene": "cell enzyme protein", "wave": "field force"}
TASKS = tuple(WORDS)
EXPERTS = ("ann", "ben", "cleo", "dan")
ROWS = 240


def table_of(score_NA: Floats, rng: np.random.Generator) -> OutcomeTable:
    count = len(score_NA)
    tasks = tuple(TASKS[i % 3] for i in range(count))
    # Numbers keep any two prompts apart: among equally near rows, which k are nearest is open.
    numbers = rng.integers(10**6, size=(count, 4)).astype(str)
    prompts = tuple(
        f"{task} {' '.join(rng.choice(WORDS[task].split(), 6))} {' '.join(numbers[i])}"
        for i, task in enumerate(tasks)
    )
    ids = tuple(f"q{i:04d}" for i in range(count))
    unknown_NA = np.full_like(score_NA, np.nan)
    tokens_NA = rng.lognormal(4, 0.5, score_NA.shape)
    return OutcomeTable(
        query_ids=ids,
        prompts=prompts,
        tasks=tasks,
        groups=ids,
        experts=EXPERTS[: score_NA.shape[1]],
        score_NA=score_NA,
        prompt_tokens_NA=unknown_NA,
        output_tokens_NA=tokens_NA,
        cost_usd_NA=unknown_NA,
        latency_s_NA=tokens_NA / 50,
        propensity_NA=np.ones_like(score_NA),
    )


def a_world(rng: np.random.Generator, rows: int = ROWS) -> OutcomeTable:
    """Three experts, each the best at one task; dan was never asked."""
    at_home_NA = np.arange(rows)[:, None] % 3 == np.arange(4)
    score_NA = (rng.random((rows, 4)) < np.where(at_home_NA, 0.9, 0.4)).astype(np.float64)
    score_NA[rng.random((rows, 4)) < 0.2] = np.nan
    score_NA[:, 3] = np.nan
    return table_of(score_NA, rng)


def featurized(table: OutcomeTable) -> FeatureBatch:
    return Featurizer(HashingEncoder(64)).transform(table.prompts)


def fit(unfitted: Estimator, table: OutcomeTable, seed: int = 0) -> Estimator:
    return unfitted.fit(featurized(table), table, np.random.default_rng(seed))


def calibrated(name: str) -> Estimator:
    return CalibratedEstimator(make_estimator(name))


def wrapped(name: str) -> Estimator:
    return make_wrapper(name, make_estimator("ridge"))


# Those that would take long get settings that don't.
QUICK: dict[str, dict[str, Any]] = {
    "bilinear": {"width": 4, "epochs": 3, "members": 2},
    "contrastive": {"width": 4, "epochs": 3, "clusters": 3},
    "entities": {"epochs": 3, "hidden": 8},
    "graph": {"epochs": 3, "hidden": 8},
    "irt": {"abilities": 3, "epochs": 3, "members": 2},
    "mlp": {"units": 8, "epochs": 3, "members": 2},
    "stack": {"members": ("knn", "ridge")},
    "text": {"epochs": 1, "most_rows": 40, "most_tokens": 4},
}
# The wrapper owes the same whatever is in it: a few kinds of estimator stand for all.
CALIBRATED = ("category", "knn", "prior", "ridge")
KINDS = {
    **{name: partial(make_estimator, name, **QUICK.get(name, {})) for name in estimator_names()},
    **{f"{name}+calibrated": partial(calibrated, name) for name in CALIBRATED},
    **{f"{name}:ridge": partial(wrapped, name) for name in wrapper_names() if name != "calibrated"},
}


def quick_router(name: str, table: OutcomeTable) -> Router:
    """A router with the settings in QUICK, and calibrated unless there are any."""
    with pytest.MonkeyPatch.context() as patch:
        quick = partial(make_estimator, name, **QUICK.get(name, {}))
        patch.setattr("routers.fitting.recipe.make_estimator", lambda _: quick())
        return fit_router("r", name, table, seed=1, calibrate=name not in QUICK)


# A transformer reads every text of every test.
SLOW = {"text"}


@pytest.fixture(
    params=[pytest.param(kind, marks=[pytest.mark.slow] * (kind in SLOW)) for kind in sorted(KINDS)]
)
def unfitted(request: pytest.FixtureRequest) -> Estimator:
    return KINDS[request.param]()


@pytest.fixture(scope="module")
def world() -> OutcomeTable:
    return a_world(np.random.default_rng(7))


def everything(fitted: Estimator, features: FeatureBatch) -> Floats:
    found = fitted.predict(features)
    parts = (found.quality_NA, found.stderr_NA, found.output_tokens_NA, found.latency_s_NA)
    return np.stack([np.array(part) for part in parts])


def test_estimates_are_in_range_and_in_the_order_of_the_table(
    unfitted: Estimator, world: OutcomeTable
) -> None:
    found = fit(unfitted, world).predict(featurized(world))
    assert found.experts == world.experts
    for part in (found.quality_NA, found.stderr_NA, found.output_tokens_NA, found.latency_s_NA):
        assert part.shape == (len(world), 4)
        assert part.dtype == np.float64
    assert ((found.quality_NA[:, :3] >= 0) & (found.quality_NA[:, :3] <= 1)).all()
    assert (found.stderr_NA[:, :3] > 0).all()
    assert (found.output_tokens_NA > 0).all()
    assert (found.latency_s_NA > 0).all()


def test_prediction_is_pure_and_row_by_row(unfitted: Estimator, world: OutcomeTable) -> None:
    fitted, features = fit(unfitted, world), featurized(world).take(np.arange(12))
    vectors_before = features.vectors_ND.copy()
    together = everything(fitted, features)
    np.testing.assert_array_equal(everything(fitted, features), together)
    np.testing.assert_array_equal(features.vectors_ND, vectors_before)
    rows = [everything(fitted, features.take(np.array([row]))) for row in range(12)]
    # Products of one row and of many differ in the last digit, and so may the k-th neighbour.
    np.testing.assert_allclose(np.concatenate(rows, axis=1), together, atol=1e-4)


def test_nothing_asked_is_nothing_answered(unfitted: Estimator, world: OutcomeTable) -> None:
    nobody = featurized(world).take(np.array([], dtype=np.intp))
    assert fit(unfitted, world).predict(nobody).quality_NA.shape == (0, 4)


def test_the_same_seed_fits_the_same(unfitted: Estimator, world: OutcomeTable) -> None:
    features = featurized(world)
    one, other = fit(unfitted, world, seed=5), fit(unfitted, world, seed=5)
    np.testing.assert_array_equal(everything(one, features), everything(other, features))


def test_fitting_changes_neither_the_table_nor_an_earlier_fit(
    unfitted: Estimator, world: OutcomeTable
) -> None:
    features, scores_before = featurized(world), world.score_NA.copy()
    first = fit(unfitted, world)
    before = everything(first, features)
    fit(first, a_world(np.random.default_rng(8)))
    np.testing.assert_array_equal(world.score_NA, scores_before)
    np.testing.assert_array_equal(everything(first, features), before)


def test_the_state_round_trip_changes_nothing(unfitted: Estimator, world: OutcomeTable) -> None:
    fitted, features = fit(unfitted, world), featurized(world)
    again = type(fitted).from_state(fitted.state())
    np.testing.assert_array_equal(everything(again, features), everything(fitted, features))


@pytest.mark.parametrize("name", estimator_names())
def test_a_saved_router_predicts_what_it_predicted(
    name: str, world: OutcomeTable, tmp_path_factory: pytest.TempPathFactory
) -> None:
    router = quick_router(name, world)
    directory = tmp_path_factory.mktemp("routers") / name
    assert save_router(router, directory) == router.version
    again = load_router(directory)
    features = again.featurizer.transform(world.prompts)
    expected = everything(router.estimator, router.featurizer.transform(world.prompts))
    np.testing.assert_array_equal(everything(again.estimator, features), expected)


@pytest.mark.parametrize("name", estimator_names())
def test_the_order_of_rows_changes_nothing(name: str, world: OutcomeTable) -> None:
    shuffled = world.take(np.random.default_rng(0).permutation(len(world)))
    versions = {quick_router(name, table).version for table in (world, shuffled)}
    assert len(versions) == 1


def test_the_order_of_experts_changes_nothing(unfitted: Estimator, world: OutcomeTable) -> None:
    backwards = [3, 2, 1, 0]
    renamed = replace(
        world,
        score_NA=world.score_NA[:, backwards],
        output_tokens_NA=world.output_tokens_NA[:, backwards],
        latency_s_NA=world.latency_s_NA[:, backwards],
    )
    features = featurized(world)
    straight = everything(fit(unfitted, world), features)
    reversed_ = everything(fit(unfitted, renamed), features)
    np.testing.assert_allclose(reversed_[:, :, backwards], straight, atol=1e-9)


def test_what_was_not_observed_does_not_count_as_zero(unfitted: Estimator) -> None:
    rng = np.random.default_rng(1)
    score_NA = np.column_stack([np.ones(ROWS), rng.random(ROWS).round(), np.zeros(ROWS)])
    score_NA[rng.random(ROWS) < 0.7, 0] = np.nan
    table = table_of(score_NA, rng)
    quality_NA = fit(unfitted, table).predict(featurized(table)).quality_NA
    assert quality_NA[:, 0].min() > 0.9
    assert quality_NA[:, 2].max() < 0.1


def test_an_expert_that_was_never_asked_is_unknown(
    unfitted: Estimator, world: OutcomeTable
) -> None:
    quality_NA = fit(unfitted, world).predict(featurized(world)).quality_NA
    assert np.isnan(quality_NA[:, 3]).all()


def test_rows_weigh_by_how_rarely_they_were_logged(unfitted: Estimator) -> None:
    rng = np.random.default_rng(2)
    right_N = rng.random(ROWS) < 0.5
    score_NA = np.column_stack([right_N, np.ones(ROWS)]).astype(np.float64)
    propensity_NA = np.ones((ROWS, 2))
    propensity_NA[:, 0] = np.where(right_N, 0.9, 0.1)
    table = replace(table_of(score_NA, rng), propensity_NA=propensity_NA)
    quality_NA = fit(unfitted, table).predict(featurized(table)).quality_NA
    # Half the rows are right, each standing for 1 / .9; each wrong one stands for 10.
    assert quality_NA[:, 0].mean() == pytest.approx(0.1, abs=0.06)


def with_value(table: OutcomeTable, column: str, value: float) -> OutcomeTable:
    changed_NA = getattr(table, column).copy()
    changed_NA[5, 1] = value
    changed = replace(table, **{column: changed_NA})
    score_NA: npt.NDArray[np.float64] = changed.score_NA.copy()
    score_NA[5, 1] = value if column == "score_NA" else 1.0
    return replace(changed, score_NA=score_NA)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("score_NA", 1.5),
        ("score_NA", -0.1),
        ("propensity_NA", 0.0),
        ("propensity_NA", 1.2),
        ("propensity_NA", float("nan")),
    ],
)
def test_a_value_out_of_range_is_refused_by_row_and_expert(
    unfitted: Estimator, world: OutcomeTable, column: str, value: float
) -> None:
    with pytest.raises(TableError, match=r"of expert 'ben' on query 'q0005' is not in"):
        fit(unfitted, with_value(world, column, value))


def test_features_of_other_rows_are_refused(unfitted: Estimator, world: OutcomeTable) -> None:
    with pytest.raises(TableError, match="239 rows of features for 240 rows of outcomes"):
        unfitted.fit(featurized(world).take(np.arange(239)), world, np.random.default_rng(0))


def test_a_table_without_a_score_is_refused(unfitted: Estimator, world: OutcomeTable) -> None:
    empty = replace(world, score_NA=np.full_like(world.score_NA, np.nan))
    with pytest.raises(TableError, match="no score is observed"):
        fit(unfitted, empty)


@pytest.mark.parametrize("rows", [2, 3, 7, 40])
def test_a_tiny_table_is_enough_to_fit(unfitted: Estimator, rows: int) -> None:
    rng = np.random.default_rng(3)
    table = table_of(rng.random((rows, 2)), rng)
    quality_NA = fit(unfitted, table).predict(featurized(table)).quality_NA
    assert np.isfinite(quality_NA).all()


def test_rows_of_one_single_group_are_enough_to_fit(
    unfitted: Estimator, world: OutcomeTable
) -> None:
    table = replace(world, groups=("same",) * len(world))
    quality_NA = fit(unfitted, table).predict(featurized(table)).quality_NA
    assert np.isfinite(quality_NA[:, :3]).all()
