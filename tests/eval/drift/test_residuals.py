"""Experts that changed are found, named and dated; those that didn't are left in peace."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from eval.drift.residuals import ALL, Residuals, moved, moved_since
from routers.records import Floats

EXPERTS = ("dear", "cheap", "other")


def answers(
    quality_NA: Floats, seed: int, tasks: Sequence[str | None] | None = None, bias: float = 0.0
) -> Residuals:
    """One answer per row, by an expert drawn evenly, expected to be as good as the first row."""
    rng = np.random.default_rng(seed)
    count = len(quality_NA)
    chosen_N = rng.integers(len(EXPERTS), size=count)
    score_N = (rng.random(count) < quality_NA[np.arange(count), chosen_N]).astype(np.float64)
    expected_N = quality_NA[0, chosen_N] + bias
    names = [EXPERTS[column] for column in chosen_N.tolist()]
    return Residuals(
        names, tasks or [None] * count, expected_N, score_N, np.arange(count, dtype=np.float64)
    )


def steady(count: int) -> Floats:
    return np.tile([0.8, 0.4, 0.6], (count, 1))


def test_an_expert_that_got_worse_is_found_and_dated() -> None:
    quality_NA = steady(3000)
    quality_NA[2000:, 0] = 0.4
    (found,) = moved(answers(quality_NA, seed=1))
    assert (found.expert, found.slice) == ("dear", ALL)
    assert found.since == pytest.approx(2000, abs=60)
    assert found.since < found.found < 2300
    assert found.before == pytest.approx(0, abs=0.05)
    assert found.after == pytest.approx(-0.4, abs=0.1)
    assert found.sentence.startswith("dear scores -")


def test_an_expert_that_got_better_is_found_too() -> None:
    quality_NA = steady(3000)
    quality_NA[1500:, 1] = 0.9
    (found,) = moved(answers(quality_NA, seed=2))
    assert found.expert == "cheap"
    assert found.after > 0.4


def test_a_change_within_one_task_is_found_there() -> None:
    tasks = ["law" if row % 4 else "rare" for row in range(6000)]
    quality_NA = steady(6000)
    rare_N = np.array([task == "rare" for task in tasks])
    quality_NA[(np.arange(6000) >= 3000) & rare_N, 0] = 0.1
    found = moved(answers(quality_NA, seed=3, tasks=tasks))
    assert ("dear", "rare") in {(each.expert, each.slice) for each in found}
    assert not any(each.slice == "law" for each in found)


def test_false_alarms_are_rare() -> None:
    # 60 logs of 3,000 scores, whose three experts are looked at in all and on two tasks.
    tasks = ["law" if row % 2 else "gene" for row in range(3000)]
    alarms = sum(
        bool(moved(answers(steady(3000), seed=seed, tasks=tasks))) for seed in range(100, 160)
    )
    assert alarms <= 1


def test_what_was_always_expected_wrongly_is_no_change() -> None:
    assert moved(answers(steady(3000), seed=4, bias=0.15)) == ()


def test_few_scores_say_nothing() -> None:
    quality_NA = steady(40)
    quality_NA[20:] = 0.0
    assert moved(answers(quality_NA, seed=5)) == ()


def test_an_expert_asked_little_is_told_of_once_the_time_is_known() -> None:
    quality_NA = steady(900)
    quality_NA[:, 1] = np.where(np.arange(900) < 850, 0.2, 0.9)
    seen = answers(quality_NA, seed=6)
    assert moved(seen) == ()
    assert moved_since(seen, 850.0) == ("cheap",)


def test_a_known_time_alone_accuses_nobody() -> None:
    named = sum(bool(moved_since(answers(steady(600), seed=seed), 400.0)) for seed in range(80))
    # One in a hundred is what the level allows.
    assert named <= 4
