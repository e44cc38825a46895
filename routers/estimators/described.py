"""Descriptions of experts that nobody described: the tasks and words that they do best at."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from routers.estimators.observed import Observed
from routers.records import Floats

_WORD = re.compile(r"[^\W\d_]{3,}")
_SEPARATORS = re.compile(r"[\W_]+")
_STRENGTH = 20.0
_MOST_WORDS = 3000
_FEWEST_ROWS = 5
_TASKS_NAMED, _WORDS_NAMED = 3, 12


def describe(
    instructions: Sequence[str], tasks: Sequence[str | None], outcomes: Observed
) -> tuple[str, ...]:
    """What each expert is better at than the others, in words; "" for one never observed.

    First the labels of up to three tasks, then up to twelve words of instructions, each with the
    largest mean lead of the expert's score over the others' on the same rows, shrunk by 20 rows.

    Args:
        instructions: What each row asks for, length N.
        tasks: Its task label, None where there is none.
        outcomes: Who did how well.
    """
    lead_NA = _leads(outcomes)
    seen_NA = (outcomes.weight_NA > 0).astype(np.float64)
    labels = [[] if task is None else [_SEPARATORS.sub(" ", task).strip()] for task in tasks]
    words = [_WORD.findall(each.lower()) for each in instructions]
    by_task = _best(labels, lead_NA, seen_NA, _TASKS_NAMED)
    by_word = _best(words, lead_NA, seen_NA, _WORDS_NAMED)
    return tuple(
        ", ".join([*by_task[expert], " ".join(by_word[expert])]) if seen else ""
        for expert, seen in enumerate((seen_NA.sum(axis=0) > 0).tolist())
    )


def _leads(outcomes: Observed) -> Floats:
    """Score minus the row's mean, or minus the expert's own where nobody else was asked."""
    seen_NA = outcomes.weight_NA > 0
    count_N1 = seen_NA.sum(axis=1, keepdims=True)
    mean_N1 = outcomes.score_NA.sum(axis=1, keepdims=True) / np.maximum(count_N1, 1)
    own_A = np.nan_to_num(outcomes.mean_A)
    lead_NA = outcomes.score_NA - np.where(count_N1 > 1, mean_N1, own_A)
    # Rounded, so that the order in which sums were taken never decides between equals.
    rounded_NA: Floats = np.where(seen_NA, lead_NA, 0.0).round(9)
    return rounded_NA


def _best(terms: list[list[str]], lead_NA: Floats, seen_NA: Floats, most: int) -> list[list[str]]:
    """The terms with the largest mean lead, expert by expert; only those with a lead at all."""
    rows = [sorted(set(each)) for each in terms]
    counts = Counter(term for each in rows for term in each)
    frequent = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_MOST_WORDS]
    kept = [term for term, count in frequent if count >= _FEWEST_ROWS]
    place = {term: index for index, term in enumerate(kept)}
    sums_TA, mass_TA = np.zeros((2, len(kept), lead_NA.shape[1]))
    for row, each in enumerate(rows):
        places = [place[term] for term in each if term in place]
        sums_TA[places] += lead_NA[row]
        mass_TA[places] += seen_NA[row]
    mean_TA = (sums_TA / (mass_TA + _STRENGTH)).round(9)
    return [_top(kept, mean_TA[:, expert], most) for expert in range(lead_NA.shape[1])]


def _top(terms: list[str], value_T: npt.NDArray[np.float64], most: int) -> list[str]:
    order = sorted(range(len(terms)), key=lambda index: (-value_T[index], terms[index]))
    return [terms[index] for index in order[:most] if value_T[index] > 0]
