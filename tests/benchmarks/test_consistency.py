"""Cascades by the agreement of samples are worked out as the gateway would hold them."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.composition.consistency import Prompted, consistent
from benchmarks.composition.stopping import Samples
from routers.records import Floats

RIGHT, TOP, NONE = (12, 7), (12, 9), (0, 2)
"""Of twenty samples of two prompts: right, of the majority's answer, without an answer."""
LAST = Samples(np.array([0.7]), np.array([5.0]))


@pytest.mark.parametrize("alike", [True, False])
def test_what_is_right_and_what_it_costs_is_what_drawn_samples_come_to(alike: bool) -> None:
    rng = np.random.default_rng(0)
    drafts = [_answers(prompt, alike) for prompt in range(2)]
    held = [_held(drafts, rng) for _ in range(20_000)]
    right, usd = np.mean([won for won, _ in held]), np.mean([spent for _, spent in held])
    found = consistent([_prompted(prompt) for prompt in range(2)], LAST, each=3, need=4)
    assert (found.least_N if alike else found.most_N)[0] == pytest.approx(right, abs=0.01)
    if alike:
        assert found.usd_N[0] > usd
    else:
        assert found.usd_N[0] == pytest.approx(usd, abs=0.03)


def test_half_of_the_samples_are_not_enough() -> None:
    with pytest.raises(ValueError, match="more than half"):
        consistent([_prompted(0), _prompted(1)], LAST, each=2, need=2)


def _prompted(prompt: int) -> Prompted:
    wrong = 20 - RIGHT[prompt] - NONE[prompt]
    right_N, wrong_N, top_N = (np.array([n]) for n in (RIGHT[prompt], wrong, TOP[prompt]))
    return Prompted(right_N, wrong_N, top_N, usd_N=np.array([0.1]))


def _answers(prompt: int, alike: bool) -> list[str]:
    """Twenty samples: wrong ones in groups as large as the majority, or of the prompt's own."""
    wrong = 20 - RIGHT[prompt] - NONE[prompt]
    names = [
        f"wrong {rank // TOP[prompt]}" + ("" if alike else f" {prompt}") for rank in range(wrong)
    ]
    return ["right"] * RIGHT[prompt] + names + [f"none {n} {prompt}" for n in range(NONE[prompt])]


def _held(drafts: list[list[str]], rng: np.random.Generator) -> tuple[float, float]:
    """P(right) of one cascade, and what was spent."""
    said = [str(each) for answers in drafts for each in rng.permutation(answers)[:3]]
    for answer in set(said):
        if said.count(answer) >= 4:
            return float(answer == "right"), 0.6
    return _first(LAST.right_N), 0.6 + _first(LAST.usd_N)


def _first(values_N: Floats) -> float:
    return float(values_N[0])
