from __future__ import annotations

import numpy as np
import pytest

from eval.metrics.robustness import (
    CHANGES,
    Columns,
    Robustness,
    change,
    disturb,
    mistyped,
    reworded,
    robustness,
)
from routers.encoders.lexical import HashingEncoder
from routers.features import Featurizer
from routers.records import FeatureBatch

PROMPTS = [f"Calculate the number of {word} in row {i}" for i in range(40) for word in ("apples",)]
EXPERTS = ("cheap", "dear")


def decide_by(word: str, prompts: list[str] | None = None) -> Robustness:
    changed = change(prompts or PROMPTS, PROMPTS, seed=0)
    disturbed = disturb(changed, Featurizer(HashingEncoder()).transform)

    def decide(features: FeatureBatch) -> Columns:
        return np.array([int(word in text) for text in features.texts], dtype=np.intp)

    return robustness(decide, disturbed, EXPERTS, [1, 0])


def test_who_never_looks_never_flips() -> None:
    found = decide_by("no such word")
    assert found.flips == dict.fromkeys(CHANGES, 0.0)
    assert found.unchanged == 1.0
    assert (found.target, found.success) == ("dear", 0.0)


def test_each_change_flips_whom_it_must() -> None:
    assert decide_by("Please").flips == {
        "prefix": 1.0,
        "wording": 0.0,
        "typo": 0.0,
    }
    assert decide_by("compute").flips["wording"] == 1.0
    assert 0 < decide_by("Calculate").flips["typo"] < 1


def test_a_gadget_is_found_for_who_can_be_fooled() -> None:
    prompts = [f"question {i}" for i in range(60)]
    # A word of the training prompts that the test's do not hold sends its bearer to `dear`.
    found = decide_by("apples", prompts)
    assert found.target == "dear"
    assert found.before == 0.0
    assert found.success == found.after == 1.0


def test_who_gets_most_anyway_is_no_target() -> None:
    found = decide_by("row")
    assert found.target == "cheap"


def test_changes_keep_what_is_asked() -> None:
    rng = np.random.default_rng(0)
    text = "Which of the following numbers is prime?"
    assert reworded(text) == "which one of these numbers is prime?"
    assert reworded("Hm?") == "Hm?\nThank you."
    changed = mistyped(text, rng)
    assert changed != text
    assert sorted(changed) == sorted(text)
    assert mistyped("a b", rng) == "a b "


@pytest.mark.parametrize("count", [1, 2, 7])
def test_few_prompts_are_enough(count: int) -> None:
    found = decide_by("Please", PROMPTS[:count])
    assert found.flips["prefix"] == 1.0
