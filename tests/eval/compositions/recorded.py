"""A recorded pool with planted truth: who hedges is mostly wrong, and right answers agree."""

from __future__ import annotations

import numpy as np

from eval.compositions.drafts import DraftTable
from routers.records import OutcomeTable

EXPERTS = ("dear", "small", "tiny")
USD = np.array([10.0, 1.0, 0.5])
RIGHT = np.array([0.95, 0.65, 0.6])


def recorded(count: int = 120, seed: int = 0) -> tuple[OutcomeTable, DraftTable]:
    """Answers to sums, at known costs; hedging tells a wrong one in nine of ten cases."""
    rng = np.random.default_rng(seed)
    right_NA = rng.uniform(size=(count, 3)) < RIGHT
    hedges_NA = np.where(rng.uniform(size=(count, 3)) < 0.9, ~right_NA, right_NA)
    prompts, answers = [], []
    for row in range(count):
        prompts.append(f"Case {seed}-{row}: how much is {row} and {row}?")
        said = []
        for column in range(3):
            number = 2 * row if right_NA[row, column] else 2 * row + 1 + column
            said.append(
                f"{'Perhaps, I am not sure,' if hedges_NA[row, column] else 'It is'} {number}"
            )
        answers.append(tuple(said))
    ids = tuple(f"{seed}-{row:04d}" for row in range(count))
    unknown = np.full((count, 3), np.nan)
    table = OutcomeTable(
        ids,
        tuple(prompts),
        (None,) * count,
        ids,
        EXPERTS,
        np.where(right_NA, 1.0, 0.0),
        np.full((count, 3), 20.0),
        np.full((count, 3), 10.0),
        np.tile(USD, (count, 1)),
        unknown,
        np.ones((count, 3)),
    )
    return table, DraftTable(tuple(answers), unknown, unknown, unknown)
