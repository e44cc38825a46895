"""Labels of tasks: which are believed, and what is done without."""

from __future__ import annotations

import numpy as np
import pytest

from routers.errors import TableError
from routers.estimators import denoise
from routers.estimators.category import CategoryEstimator
from routers.estimators.denoise import trusted_labels
from tests.routers.made_tables import features_of, rng, table_of, two_tasks, unit


def test_a_request_that_fits_no_task_goes_to_the_best_generalist() -> None:
    features, table = two_tasks()
    fitted = CategoryEstimator().fit(features, table, rng())
    lost, first = unit(np.array([[1.0, 1.0], [1.0, 0.0]]))
    quality_NA = fitted.predict(features_of(np.stack([lost, first]))).quality_NA
    np.testing.assert_allclose(quality_NA[0], [0.5, 0.5, 0.6], atol=1e-9)
    assert quality_NA[1].argmax() == 0


def test_without_two_task_labels_the_cluster_estimator_is_recommended() -> None:
    features, table = two_tasks()
    unlabelled = table_of(table.score_NA)
    with pytest.raises(TableError, match=r"this table has 0; use the cluster estimator"):
        CategoryEstimator().fit(features, unlabelled, rng())


def test_rows_without_a_label_still_count_for_the_generalist() -> None:
    features, table = two_tasks()
    score_NA = table.score_NA.copy()
    score_NA[:40, 2] = 1.0
    tasks = (None,) * 40 + table.tasks[40:]
    always_lost = CategoryEstimator(most_entropy=0.0)
    fitted = always_lost.fit(features, table_of(score_NA, tasks=tasks), rng())
    pool_c = fitted.predict(features_of(unit(np.array([[1.0, 1.0]])))).quality_NA[0, 2]
    assert pool_c == pytest.approx((40 * 1.0 + 80 * 0.6) / 120)


def test_contradicted_labels_are_doubted_and_others_are_not() -> None:
    truth_N = np.arange(400) % 4
    vectors_ND = unit(np.eye(4)[truth_N] + rng().normal(0, 0.15, (400, 4))).astype(np.float64)
    flipped_N = rng().random(400) < 0.2
    labels_N = np.where(flipped_N, (truth_N + 1) % 4, truth_N)
    trusted_N = trusted_labels(vectors_ND, labels_N, [str(i) for i in range(400)])
    assert (~trusted_N[flipped_N]).mean() > 0.6
    assert trusted_N[~flipped_N].mean() > 0.98


def test_rows_of_one_group_do_not_vouch_for_each_other() -> None:
    truth_N = np.arange(200) % 2
    vectors_ND = unit(np.eye(2)[truth_N] + rng().normal(0, 0.1, (200, 2)))
    vectors_ND[:20], labels_N = vectors_ND[0], truth_N.copy()
    labels_N[:20] = 1 - truth_N[0]
    apart = [str(i) for i in range(200)]
    together = ["copies"] * 20 + apart[20:]
    assert trusted_labels(vectors_ND.astype(np.float64), labels_N, apart)[:20].all()
    assert not trusted_labels(vectors_ND.astype(np.float64), labels_N, together)[:20].any()


def test_in_a_large_table_a_part_of_the_rows_votes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(denoise, "_MOST_VOTERS", 50)
    truth_N = np.arange(201) % 2
    vectors_ND = unit(np.eye(2)[truth_N] + rng().normal(0, 0.1, (201, 2)))
    labels_N = truth_N.copy()
    labels_N[7] = 0
    groups = [str(i) for i in range(201)]
    trusted_N = trusted_labels(vectors_ND.astype(np.float64), labels_N, groups)
    assert np.flatnonzero(~trusted_N).tolist() == [7]


def test_no_task_disappears_because_its_labels_are_doubted() -> None:
    vectors_ND = unit(np.eye(2)[np.arange(100) % 2] + rng().normal(0, 0.1, (100, 2)))
    labels_N = np.zeros(100, dtype=np.intp)
    labels_N[:3] = 1
    trusted_N = trusted_labels(
        vectors_ND.astype(np.float64), labels_N, [str(i) for i in range(100)]
    )
    assert trusted_N[labels_N == 1].all()
