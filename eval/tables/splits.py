"""What to learn from and what to judge by: two tables that share no question."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from eval.errors import ComparisonError, SourceError
from eval.tables.sources import Outcomes, read_outcomes, same_prompt_key
from routers.records import OutcomeTable

TEST_SHARE = 0.25
_TEST_NAMES = ("dev", "test", "valid", "validation")

Rows = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class TrainTest:
    """Two tables with the same experts and no group of (near-)identical questions in common.

    Attributes:
        train: What routers learn from.
        test: What they are judged by.
        data: Where the tables come from, JSON-able: files, splits, queries removed.
        notes: What a reader must know of the data, as whole sentences.
    """

    train: OutcomeTable
    test: OutcomeTable
    data: Mapping[str, Any]
    notes: tuple[str, ...]


def read_train_test(
    train: Path | str, test: Path | str, *, seed: int = 0, form: str | None = None
) -> TrainTest:
    """Read both tables.

    One and the same file with a `split` column gives its rows `train` and `dev` (or `test`);
    without one it is divided at random by groups, a quarter for the test. Of two files each is
    used whole. Queries of the training side whose group or prompt is on the test side are removed.
    `form` is as for `read_outcomes`.

    Raises:
        SourceError: A file is malformed, or its splits are none that can be used.
        ComparisonError: Nothing is left to learn from.
    """
    train, test = Path(train), Path(test)
    if train.exists() and test.exists() and train.samefile(test):
        outcomes = read_outcomes(train, form)
        sides, how, notes = _one_file(outcomes, seed)
        grouped = True
        tables = outcomes.table.take(sides[0]), outcomes.table.take(sides[1])
    else:
        first, second = read_outcomes(train, form), read_outcomes(test, form)
        tables, how = (first.table, second.table), "two files"
        notes = (*first.notes, *second.notes)
        grouped = first.grouped and second.grouped
    kept = without_shared(*tables, by_group=grouped)
    removed = len(tables[0]) - len(kept)
    if removed:
        notes = (*notes, f"{removed:,} training queries were removed: the test has them too.")
    if not len(kept):
        raise ComparisonError(f"every question of {train} is in {test} too: nothing to learn from")
    data = {
        "train": train.name,
        "test": test.name,
        "split": how,
        "train_queries_removed": removed,
    }
    return TrainTest(kept, tables[1], data, notes)


def split_groups(groups: tuple[str, ...], share: float, seed: int) -> tuple[Rows, Rows]:
    """Divide rows at random so that no group is on both sides.

    Args:
        groups: The group of each row.
        share: About which part of the rows goes to the second side, in (0, 1).
        seed: Source of the randomness.

    Returns:
        The rows of each side, ascending.
    """
    names, group_N = np.unique(np.array(groups, dtype=object), return_inverse=True)
    sizes_G = np.bincount(group_N)
    order = np.random.default_rng(seed).permutation(len(names))
    before_G = np.cumsum(sizes_G[order]) - sizes_G[order]
    second = np.isin(group_N, order[before_G < share * len(groups)])
    return np.flatnonzero(~second), np.flatnonzero(second)


def without_shared(train: OutcomeTable, test: OutcomeTable, *, by_group: bool) -> OutcomeTable:
    """`train` less the queries whose prompt (or group, if `by_group`) is in `test` too."""
    groups = set(test.groups) if by_group else set()
    prompts = {same_prompt_key(prompt) for prompt in test.prompts}
    keep = [
        row
        for row, (group, prompt) in enumerate(zip(train.groups, train.prompts, strict=True))
        if group not in groups and same_prompt_key(prompt) not in prompts
    ]
    return train if len(keep) == len(train) else train.take(np.array(keep, dtype=np.intp))


def _one_file(outcomes: Outcomes, seed: int) -> tuple[tuple[Rows, Rows], str, tuple[str, ...]]:
    splits = np.array([split or "" for split in outcomes.splits], dtype=object)
    if not any(outcomes.splits):
        sides = split_groups(outcomes.table.groups, TEST_SHARE, seed)
        if not len(sides[0]) or not len(sides[1]):
            raise ComparisonError(f"{outcomes.path} holds too few questions to divide")
        how = f"random by group, seed {seed}"
        note = (
            f"{outcomes.path.name} has no split column: {len(sides[0]):,} queries were drawn to "
            f"learn from and {len(sides[1]):,} to judge by, groups kept whole, seed {seed}."
        )
        return sides, how, (*outcomes.notes, note)
    name = next((name for name in _TEST_NAMES if name in outcomes.splits), None)
    if name is None or "train" not in outcomes.splits:
        found = ", ".join(sorted({repr(str(split)) for split in outcomes.splits}))
        message = f"must name the rows 'train' and 'dev' (or 'test'); found {found}"
        raise SourceError(outcomes.path, message, column="split")
    sides = np.flatnonzero(splits == "train"), np.flatnonzero(splits == name)
    notes = outcomes.notes
    unused = len(splits) - len(sides[0]) - len(sides[1])
    if unused:
        note = f"{outcomes.path.name}: {unused:,} queries of other splits than train and {name} "
        notes = (*notes, note + "were left out.")
    return sides, f"the file's own: train and {name}", notes
