"""From a table of outcomes to a router."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from routers.errors import RoutingError, TableError
from routers.fitting.fit import data_hash, fit_router
from routers.records import OutcomeTable
from routers.registry import DEFAULT_ESTIMATOR, estimator_names

NAN = float("nan")


def a_table(rows: int = 80, experts: int = 3) -> OutcomeTable:
    rng = np.random.default_rng(0)
    ids = tuple(f"q{i}" for i in range(rows))
    score_NA = rng.random((rows, experts))
    return OutcomeTable(
        query_ids=ids,
        prompts=tuple("x" * (4 * (i + 1)) for i in range(rows)),
        tasks=(None,) * rows,
        groups=ids,
        experts=tuple("abcdef"[:experts]),
        score_NA=score_NA,
        prompt_tokens_NA=np.full_like(score_NA, NAN),
        output_tokens_NA=np.full_like(score_NA, 70.0),
        cost_usd_NA=np.full_like(score_NA, NAN),
        latency_s_NA=np.tile([1.0, 5.0, NAN][:experts], (rows, 1)),
        propensity_NA=np.ones_like(score_NA),
    )


def test_the_router_says_how_it_was_made() -> None:
    table = a_table()
    router = fit_router("mine", "knn", table, seed=3, epsilon=0.05, calibrate=False)
    assert router.name == "mine"
    assert router.epsilon == 0.05
    assert router.estimator.name == "knn"
    expected = {
        "estimator": "knn",
        "calibrated": False,
        "encoder": "tfidf",
        "seed": 3,
        "rows": 80,
        "scores": 240,
        "experts": ["a", "b", "c"],
        "data_sha256": data_hash(table),
    }
    assert expected.items() <= router.metadata.items()


def test_typical_requests_are_medians_of_the_table() -> None:
    router = fit_router("r", "prior", a_table(), seed=0)
    assert router.typical_prompt_tokens == 40.5
    assert router.typical_output_tokens == 70
    assert router.typical_latency_s == 5


def test_unknown_tokens_and_latencies_leave_the_defaults() -> None:
    table = a_table()
    unknown_NA = np.full_like(table.score_NA, NAN)
    table = replace(table, output_tokens_NA=unknown_NA, latency_s_NA=unknown_NA)
    router = fit_router("r", "prior", table, seed=0)
    assert router.typical_output_tokens == 300
    assert np.isnan(router.typical_latency_s)


def test_calibration_is_on_unless_it_is_turned_off() -> None:
    assert fit_router("r", "ridge", a_table(), seed=0).estimator.name == "calibrated"


def test_seed_data_and_settings_all_make_the_version() -> None:
    table = a_table()
    fits = [
        fit_router("r", "cluster", table, seed=1),
        fit_router("r", "cluster", table, seed=2),
        fit_router("r", "cluster", table.take(np.arange(79)), seed=1),
        fit_router("r", "cluster", table, seed=1, calibrate=False),
        fit_router("r", "cluster", table, seed=1, encoder="hashing"),
    ]
    assert len({router.version for router in fits}) == len(fits)
    assert fit_router("r", "cluster", table, seed=1).version == fits[0].version


def test_one_expert_is_no_choice() -> None:
    with pytest.raises(TableError, match="only expert 'a' has observed scores"):
        fit_router("r", "knn", a_table(experts=1), seed=0)
    table = a_table()
    score_NA = table.score_NA.copy()
    score_NA[:, 1:] = NAN
    with pytest.raises(TableError, match="only expert 'a' has observed scores"):
        fit_router("r", "knn", replace(table, score_NA=score_NA), seed=0)


def test_a_table_without_scores_is_refused() -> None:
    table = a_table()
    empty = replace(table, score_NA=np.full_like(table.score_NA, NAN))
    with pytest.raises(TableError, match="no score is observed"):
        fit_router("r", "knn", empty, seed=0)


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(RoutingError, match=r"unknown estimator 'magic'; known are average, bilin"):
        fit_router("r", "magic", a_table(), seed=0)
    with pytest.raises(
        RoutingError, match="unknown encoder 'magic'; known are hashing, minilm, static, tfidf"
    ):
        fit_router("r", "knn", a_table(), seed=0, encoder="magic")


def test_category_without_tasks_says_what_to_use() -> None:
    with pytest.raises(TableError, match="use the cluster estimator"):
        fit_router("r", "category", a_table(), seed=0)


def test_the_average_does_without_tasks() -> None:
    router = fit_router("r", "average", a_table(), seed=0, calibrate=False)
    assert router.estimator.state()[0]["fitted"] == ["cluster", "knn"]
    labelled = replace(a_table(), tasks=tuple("xy"[i % 2] for i in range(80)))
    router = fit_router("r", "average", labelled, seed=0, calibrate=False)
    assert router.estimator.state()[0]["fitted"] == ["category", "knn"]


@pytest.mark.parametrize("column", ["score_NA", "output_tokens_NA", "latency_s_NA"])
def test_the_hash_of_the_data_sees_every_value(column: str) -> None:
    table = a_table()
    changed_NA = getattr(table, column).copy()
    changed_NA[3, 1] += 0.001
    assert data_hash(replace(table, **{column: changed_NA})) != data_hash(table)


def test_the_hash_of_the_data_sees_no_order_of_rows() -> None:
    table = a_table()
    assert data_hash(table.take(np.random.default_rng(0).permutation(80))) == data_hash(table)


def test_the_default_estimator_is_one_of_those_known() -> None:
    assert DEFAULT_ESTIMATOR in estimator_names()


def test_a_recipe_says_the_encoder_too() -> None:
    router = fit_router("r", "knn+hashing", a_table(), seed=0)
    assert (router.metadata["estimator"], router.metadata["encoder"]) == ("knn", "hashing")
    assert router.version == fit_router("r", "knn", a_table(), seed=0, encoder="hashing").version
