from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.errors import ComparisonError, SourceError
from eval.tables.sources import write_outcomes
from eval.tables.splits import read_train_test, split_groups


def rows(ids: list[str], **columns: Any) -> list[dict[str, Any]]:
    found = []
    for at, query in enumerate(ids):
        extra = {name: values[at] for name, values in columns.items()}
        row = {"query_id": query, "prompt": f"Prompt {query}", "task": "t", "score": 1.0, **extra}
        found += [{**row, "model": model} for model in ("a", "b")]
    return found


def test_one_file_is_divided_by_its_own_splits(tmp_path: Path) -> None:
    path = write_outcomes(
        rows(["1", "2", "3", "4"], split=["train", "dev", "train", "other"]), tmp_path / "x.csv"
    )
    found = read_train_test(path, path)
    assert found.train.query_ids == ("1", "3")
    assert found.test.query_ids == ("2",)
    assert found.data["split"] == "the file's own: train and dev"
    assert any("1 queries of other splits" in note for note in found.notes)


def test_dev_is_taken_before_test(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    write_outcomes(rows(["1", "2", "3"], split=["train", "test", "dev"]), path)
    assert read_train_test(path, path).test.query_ids == ("3",)
    write_outcomes(rows(["1", "2"], split=["train", "test"]), path)
    assert read_train_test(path, path).test.query_ids == ("2",)


@pytest.mark.parametrize("splits", [["train", "train"], ["dev", "dev"], ["left", "right"]])
def test_splits_that_cannot_be_used_are_refused(splits: list[str], tmp_path: Path) -> None:
    path = write_outcomes(rows(["1", "2"], split=splits), tmp_path / "x.csv")
    with pytest.raises(SourceError, match="column 'split': must name the rows 'train' and 'dev'"):
        read_train_test(path, path)


def test_one_file_without_splits_is_divided_by_groups_and_says_so(tmp_path: Path) -> None:
    ids = [str(number) for number in range(40)]
    groups = [f"g{number // 2}" for number in range(40)]
    path = write_outcomes(rows(ids, dup_group=groups), tmp_path / "x.csv")
    found = read_train_test(path, path, seed=3)
    assert len(found.train) + len(found.test) == 40
    assert 8 <= len(found.test) <= 12
    assert not set(found.train.groups) & set(found.test.groups)
    assert any("no split column" in note and "seed 3" in note for note in found.notes)
    again = read_train_test(path, path, seed=3)
    assert again.test.query_ids == found.test.query_ids
    assert read_train_test(path, path, seed=4).test.query_ids != found.test.query_ids


def test_questions_on_both_sides_are_removed_from_training(tmp_path: Path) -> None:
    train = write_outcomes(
        rows(["1", "2", "3", "4"], dup_group=["g", "h", "i", "j"]), tmp_path / "train.csv"
    )
    test = write_outcomes(rows(["9", "8"], dup_group=["h", "k"]), tmp_path / "test.csv")
    found = read_train_test(train, test)
    assert found.train.query_ids == ("1", "3", "4")
    assert found.data["train_queries_removed"] == 1
    assert any("1 training queries were removed" in note for note in found.notes)


def test_equal_prompts_are_removed_even_without_groups(tmp_path: Path) -> None:
    train = write_outcomes(rows(["1", "2"], prompt=["Hi there", "Other"]), tmp_path / "a.csv")
    test = write_outcomes(rows(["7"], prompt=["hi  THERE"]), tmp_path / "b.csv")
    assert read_train_test(train, test).train.query_ids == ("2",)


def test_equal_query_ids_in_two_files_mean_nothing(tmp_path: Path) -> None:
    train = write_outcomes(rows(["1", "2"], prompt=["A", "B"]), tmp_path / "a.csv")
    test = write_outcomes(rows(["1", "2"], prompt=["C", "D"]), tmp_path / "b.csv")
    assert read_train_test(train, test).train.query_ids == ("1", "2")


def test_nothing_left_to_learn_from_is_refused(tmp_path: Path) -> None:
    first = write_outcomes(rows(["1"]), tmp_path / "a.csv")
    second = write_outcomes(rows(["1"]), tmp_path / "b.csv")
    with pytest.raises(ComparisonError, match="nothing to learn from"):
        read_train_test(first, second)


@given(
    groups=st.lists(st.integers(0, 20), min_size=2, max_size=200),
    share=st.floats(0.05, 0.95),
    seed=st.integers(0, 9),
)
def test_a_group_is_never_on_both_sides(groups: list[int], share: float, seed: int) -> None:
    names = tuple(map(str, groups))
    first, second = split_groups(names, share, seed)
    assert np.array_equal(np.sort(np.concatenate([first, second])), np.arange(len(names)))
    assert not {names[row] for row in first} & {names[row] for row in second}
