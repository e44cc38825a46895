"""Part a, first way: a weak model's samples under several prompts, and the strong one in doubt.

As many samples of each prompt; where enough of all of them say the same, that is the answer, else
the strong model is asked. As a configuration: `{cascade: [weak, strong], defer: {by: agreement,
among: [weak under other prompts], samples: 3}}`. Source: Yue et al., "Large Language Model Cascades
with Mixture of Thought Representations", 2023 (votes over chains of thought and programs).

The file says of each prompt how many of its twenty samples are right and how many give the
majority's answer. From this follows how often so many of a few say what is right. Whether wrong
answers to different prompts are the same is unknown, so everything is worked out twice: as alike as
these counts allow, and never alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
import numpy.typing as npt

from benchmarks.composition.stopping import Samples, Stopped
from routers.records import Floats

Counts = npt.NDArray[np.intp]
DRAWN_FROM = 20


@dataclass(frozen=True, slots=True, eq=False)
class Prompted:
    """What is known of twenty samples of one prompt, for N questions.

    Attributes:
        right_N: How many are right.
        wrong_N: How many are wrong; what is left gave no answer.
        top_N: How many give the majority's answer.
        usd_N: Dollars of one.
    """

    right_N: Counts
    wrong_N: Counts
    top_N: Counts
    usd_N: Floats


def consistent(prompts: Sequence[Prompted], last: Samples, each: int, need: int) -> Stopped:
    """What comes of asking `last` unless `need` of `each` samples of every prompt say the same.

    Args:
        prompts: Of the weak model, at least two.
        last: The strong model.
        each: Samples of each prompt, in [1, 20].
        need: More than half of all samples, so that no two answers can have as many.
    """
    if len(prompts) < 2 or need <= each * len(prompts) / 2:
        raise ValueError("it takes two prompts, and more than half of all samples")
    drafts_N = each * sum(prompt.usd_N for prompt in prompts)
    right_N = _enough([prompt.right_N for prompt in prompts], each, need)
    alike_N = np.zeros(len(right_N))
    # The largest groups of wrong answers together, then the next ones. None is above its prompt's
    # majority. Never alike, none is enough: a prompt has no more than half of all samples.
    for rank in range(DRAWN_FROM):
        groups = [np.clip(p.wrong_N - rank * p.top_N, 0, p.top_N) for p in prompts]
        if not any(group_N.any() for group_N in groups):
            break
        alike_N += _enough(groups, each, need)
    return Stopped(
        least_N=right_N + (1 - right_N - alike_N) * last.right_N,
        most_N=right_N + (1 - right_N) * last.right_N,
        usd_N=drafts_N + (1 - right_N) * last.usd_N,
    )


def _enough(groups: Sequence[Counts], each: int, need: int) -> Floats:
    """P(`need` samples or more are of these groups), with `each` of every prompt's twenty drawn."""
    drawn_SK = np.array(
        [
            [comb(size, k) * comb(DRAWN_FROM - size, each - k) for k in range(each + 1)]
            for size in range(DRAWN_FROM + 1)
        ]
    ) / comb(DRAWN_FROM, each)
    total_NT = np.ones((len(groups[0]), 1))
    for group_N in groups:
        longer_NT = np.zeros((len(group_N), total_NT.shape[1] + each))
        for k in range(each + 1):
            longer_NT[:, k : k + total_NT.shape[1]] += total_NT * drawn_SK[group_N, k, None]
        total_NT = longer_NT
    found_N: Floats = total_NT[:, need:].sum(axis=1)
    return found_N
