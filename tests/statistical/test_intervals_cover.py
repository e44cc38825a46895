"""Intervals must hold the truth about as often as they claim, groups of like questions included."""

from __future__ import annotations

import numpy as np
import pytest

from eval.metrics.differences import compared
from eval.metrics.intervals import ClusterBootstrap, percentile_interval
from eval.replay.baselines import single
from eval.replay.replay import measure
from routers.records import Floats, OutcomeTable

REPEATS = 300
GROUPS, PER_GROUP = 60, 4


def grouped_table(rng: np.random.Generator, gap: float) -> OutcomeTable:
    """Two experts on groups of like questions; the second is better by `gap` on average."""
    ease_G = rng.normal(0, 0.6, GROUPS)
    effect_G = rng.normal(gap, 0.1, GROUPS)
    ease_N, effect_N = np.repeat(ease_G, PER_GROUP), np.repeat(effect_G, PER_GROUP)
    noise_NA = rng.normal(0, 0.2, (len(ease_N), 2))
    score_NA: Floats = np.stack([ease_N, ease_N + effect_N], axis=1) + noise_NA
    ids = tuple(str(row) for row in range(len(ease_N)))
    unknown_NA = np.full(score_NA.shape, np.nan)
    return OutcomeTable(
        query_ids=ids,
        prompts=ids,
        tasks=(None,) * len(ids),
        groups=tuple(f"g{row // PER_GROUP}" for row in range(len(ids))),
        experts=("a", "b"),
        score_NA=score_NA,
        prompt_tokens_NA=unknown_NA,
        output_tokens_NA=unknown_NA,
        cost_usd_NA=unknown_NA,
        latency_s_NA=unknown_NA,
        propensity_NA=np.ones(score_NA.shape),
    )


def coverage(per_group: bool, paired: bool) -> float:
    held = 0
    for repeat in range(REPEATS):
        table = grouped_table(np.random.default_rng(repeat), gap=0.05)
        names = table.groups if per_group else table.query_ids
        bootstrap = ClusterBootstrap(names, seed=repeat, replicates=300)
        first, second = (measure(table, single(table, column)) for column in (1, 0))
        if paired:
            interval = compared(first, second, "quality", logged=False).interval(bootstrap)
            truth = 0.05
        else:
            drawn = bootstrap.means(first.quality_N[None], first.quality_weight_N[None])
            interval, truth = percentile_interval(drawn[:, 0]), 0.05
        assert interval is not None
        held += interval.low <= truth <= interval.high
    return held / REPEATS


@pytest.mark.parametrize("paired", [False, True])
def test_group_intervals_hold_the_truth_as_often_as_they_claim(paired: bool) -> None:
    assert 0.90 <= coverage(per_group=True, paired=paired) <= 0.985


def test_intervals_that_ignore_groups_claim_too_much() -> None:
    assert coverage(per_group=False, paired=False) < 0.80
