from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from eval.metrics.differences import compared, is_logged
from eval.metrics.intervals import ClusterBootstrap
from eval.replay.replay import always, measure
from routers.records import OutcomeTable

MakeTable = Callable[..., OutcomeTable]


def test_only_queries_known_for_both_count(make_table: MakeTable) -> None:
    table = make_table([[1.0, 0.0], [0.0, np.nan], [1.0, 1.0]])
    first, second = (measure(table, always(table, [column] * 3)) for column in (0, 1))
    found = compared(first, second, "quality", logged=False)
    assert found.means == (1.0, 0.5)
    assert found.difference == pytest.approx(0.5)


def test_logged_data_has_weights_of_its_own(make_table: MakeTable) -> None:
    propensity = np.full((2, 2), 0.5)
    table = make_table([[1.0, np.nan], [np.nan, 0.25]], propensity=propensity)
    assert is_logged(table)
    first, second = (measure(table, always(table, [column] * 2)) for column in (0, 1))
    assert compared(first, second, "quality", logged=True).difference == pytest.approx(0.75)
    assert np.isnan(compared(first, second, "quality", logged=False).difference)


def test_standard_error_is_that_of_paired_differences(make_table: MakeTable) -> None:
    scores = np.random.default_rng(0).random((50, 2))
    table = make_table(scores)
    assert not is_logged(table)
    first, second = (measure(table, always(table, [column] * 50)) for column in (0, 1))
    gaps = scores[:, 0] - scores[:, 1]
    found = compared(first, second, "quality", logged=False)
    assert found.difference == pytest.approx(gaps.mean())
    assert found.stderr == pytest.approx(gaps.std(ddof=1) / np.sqrt(50))


def test_only_some_rows_can_be_compared(make_table: MakeTable) -> None:
    table = make_table(np.random.default_rng(1).random((20, 2)))
    first, second = (measure(table, always(table, [column] * 20)) for column in (0, 1))
    even = (np.arange(20) % 2 == 0).astype(float)
    parts = [
        compared(first, second, "quality", logged=False, rows=rows) for rows in (even, 1 - even)
    ]
    whole = compared(first, second, "quality", logged=False)
    assert np.mean([part.difference for part in parts]) == pytest.approx(whole.difference)
    assert parts[0].difference != pytest.approx(whole.difference)


def test_interval_of_a_constant_difference_has_no_width(make_table: MakeTable) -> None:
    noise = np.random.default_rng(0).random(30) / 2
    table = make_table(np.stack([noise + 0.25, noise], axis=1))
    first, second = (measure(table, always(table, [column] * 30)) for column in (0, 1))
    bootstrap = ClusterBootstrap(table.groups, seed=0, replicates=100)
    interval = compared(first, second, "quality", logged=False).interval(bootstrap)
    assert interval is not None
    assert interval.as_list() == pytest.approx([0.25, 0.25])


def test_one_query_has_no_standard_error(make_table: MakeTable) -> None:
    table = make_table([[1.0, 0.5]])
    first, second = (measure(table, always(table, [column])) for column in (0, 1))
    assert np.isnan(compared(first, second, "quality", logged=False).stderr)
