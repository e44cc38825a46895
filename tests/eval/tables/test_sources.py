from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from eval.errors import SourceError
from eval.tables.sources import read_outcomes, stream_outcomes, write_outcomes

Row = dict[str, Any]
FORMATS = ("parquet", "csv", "jsonl")


def row(query: str = "q1", model: str = "m1", score: float | None = 1.0, **others: Any) -> Row:
    return {
        "query_id": query,
        "task": "maths",
        "prompt": f"What is {query}?",
        "model": model,
        "score": score,
        "prompt_tokens": 10,
        "completion_tokens": 20,
        "cost_usd": 0.001,
        "latency_s": 0.5,
        **others,
    }


def as_parquet(rows: Sequence[Row], path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(list(rows)), path)


def as_csv(rows: Sequence[Row], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def as_jsonl(rows: Sequence[Row], path: Path) -> None:
    path.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")


WRITE: Mapping[str, Callable[[Sequence[Row], Path], None]] = {
    "parquet": as_parquet,
    "csv": as_csv,
    "jsonl": as_jsonl,
}


@pytest.mark.parametrize("extension", FORMATS)
def test_every_format_gives_the_same_table(extension: str, tmp_path: Path) -> None:
    rows = [
        row("q1", "b", 0.25, task="maths, “hard”\nvery", prompt='Say "hi",\nplease'),
        row("q1", "a", 1.0, task="maths, “hard”\nvery", prompt='Say "hi",\nplease'),
        row("q2", "a", 0.0, cost_usd=None, latency_s=None),
    ]
    path = tmp_path / f"data.{extension}"
    WRITE[extension](rows, path)
    table = read_outcomes(path).table
    assert table.query_ids == ("q1", "q2")
    assert table.experts == ("a", "b")
    assert table.prompts == ('Say "hi",\nplease', "What is q2?")
    assert table.tasks == ("maths, “hard”\nvery", "maths")
    assert_array_equal(table.score_NA, [[1.0, 0.25], [0.0, np.nan]])
    assert_array_equal(table.cost_usd_NA, [[0.001, 0.001], [np.nan, np.nan]])
    assert_array_equal(table.latency_s_NA, [[0.5, 0.5], [np.nan, np.nan]])
    assert_array_equal(table.prompt_tokens_NA, [[10, 10], [10, np.nan]])
    assert_array_equal(table.propensity_NA, np.ones((2, 2)))


@pytest.mark.parametrize("extension", FORMATS)
def test_a_row_without_a_score_is_unknown_and_not_nought(extension: str, tmp_path: Path) -> None:
    path = tmp_path / f"data.{extension}"
    WRITE[extension]([row("q1", "a", 0.5), row("q1", "b", None)], path)
    outcomes = read_outcomes(path)
    assert np.isnan(outcomes.table.score_NA[0, 1])
    assert any("1 rows have no score" in note for note in outcomes.notes)


MALFORMED: list[tuple[str, list[Row], str]] = [
    ("score above 1", [row(), row("q2", score=1.5)], "row 2, column 'score': must be a number fr"),
    ("score below 0", [row(score=-0.1)], "row 1, column 'score': must be a number from 0 to 1"),
    (
        "same query and model",
        [row(), row("q2"), row()],
        "row 3, column 'model': query 'q1' has model 'm1' already in row 1",
    ),
    (
        "two prompts",
        [row(), row(model="m2", prompt="Something else")],
        "row 2, column 'prompt': query 'q1' must have one prompt, but has two, 'What is q1?' and "
        "'Something else', in rows 1 and 2",
    ),
    (
        "two tasks",
        [row(), row(model="m2", task="history")],
        "row 2, column 'task': query 'q1' must have one task",
    ),
    (
        "two splits",
        [row(split="train"), row(model="m2", split="dev")],
        "row 2, column 'split': query 'q1' must have one split",
    ),
    ("propensity 0", [row(propensity=0.0)], "row 1, column 'propensity': must be a number above 0"),
    ("propensity 2", [row(propensity=2.0)], "row 1, column 'propensity': must be a number above 0"),
    ("negative cost", [row(cost_usd=-1.0)], "row 1, column 'cost_usd': must be a number of 0 or"),
    ("negative tokens", [row(prompt_tokens=-1)], "row 1, column 'prompt_tokens': must be a number"),
    ("negative answer", [row(completion_tokens=-1)], "row 1, column 'completion_tokens': must be"),
    ("negative latency", [row(latency_s=-0.1)], "row 1, column 'latency_s': must be a number of 0"),
    ("no query", [row(query_id=None), row()], "row 1, column 'query_id': must not be empty"),
    ("blank model", [row(), row(model=" ")], "row 2, column 'model': must not be blank"),
    ("no prompt", [row(prompt=None)], "row 1, column 'prompt': must not be empty"),
]


@pytest.mark.parametrize("extension", FORMATS)
@pytest.mark.parametrize(
    ("rows", "message"), [case[1:] for case in MALFORMED], ids=[case[0] for case in MALFORMED]
)
def test_a_malformed_file_names_row_and_column(
    extension: str, rows: list[Row], message: str, tmp_path: Path
) -> None:
    path = tmp_path / f"bad.{extension}"
    WRITE[extension](rows, path)
    with pytest.raises(SourceError) as raised:
        read_outcomes(path)
    assert str(raised.value).startswith(f"{path}, {message}")
    assert isinstance(raised.value, ValueError)


@pytest.mark.parametrize("extension", FORMATS)
@pytest.mark.parametrize("column", ["query_id", "prompt", "model", "score"])
def test_a_missing_column_is_named(extension: str, column: str, tmp_path: Path) -> None:
    path = tmp_path / f"bad.{extension}"
    WRITE[extension]([{k: v for k, v in row().items() if k != column}], path)
    with pytest.raises(SourceError, match=f"column '{column}': ") as raised:
        read_outcomes(path)
    assert raised.value.column == column
    assert "missing" in str(raised.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "the file is empty"),
        ("a.jsonl", "", "the file is empty"),
        ("a.jsonl", "\n\n", "the file holds no rows"),
        ("a.csv", "query_id,prompt,model,score\n", "the file holds no rows"),
        (
            "a.csv",
            "query_id,prompt,model,score\nq,p,m,high\n",
            "row 1, column 'score': must be a n",
        ),
        (
            "a.csv",
            "query_id,prompt,model,score\nq,p,m,nan\n",
            "row 1, column 'score': must be a nu",
        ),
        ("a.csv", "query_id,prompt,model,score\nq,p,m,1\nq,p\n", "row 2: has 2 fields, the header"),
        ("a.csv", "\x00\xff", "the header is not UTF-8 text"),
        ("a.parquet", "no parquet", "not a readable Parquet file"),
        ("a.jsonl", '{"query_id": 1', "row 1: not valid JSON"),
        (
            "a.jsonl",
            '{"query_id": 1, "prompt": "p", "model": "m", "score": NaN}',
            "row 1, column 'score': must be a number, got NaN",
        ),
        ("a.jsonl", '["q"]', "row 1: must be a JSON object"),
        ("a.xlsx", "x", "unknown extension '.xlsx'; it must be one of .csv, .jsonl, .parquet"),
        ("a", "x", "unknown extension ''"),
    ],
)
def test_a_file_that_is_no_table_is_refused(
    name: str, content: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="latin-1")
    with pytest.raises(SourceError) as raised:
        read_outcomes(path)
    assert message in str(raised.value)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("score", "0.5"),
        ("score", True),
        ("score", [1]),
        ("cost_usd", "free"),
        ("prompt", 1.5),
        ("model", {"name": "m"}),
    ],
)
def test_json_values_of_a_wrong_type_are_refused(
    column: str, value: object, tmp_path: Path
) -> None:
    path = tmp_path / "bad.jsonl"
    as_jsonl([row(), row("q2", **{column: value}) if column != "model" else row("q2", value)], path)  # type: ignore[arg-type]
    with pytest.raises(SourceError, match=f"row 2, column '{column}'"):
        read_outcomes(path)


@pytest.mark.parametrize(
    ("column", "array"),
    [
        ("score", pa.array([True, False])),
        ("score", pa.array([float("nan"), 1.0])),
        ("cost_usd", pa.array([[1.0], [2.0]])),
        ("prompt", pa.array([True, True])),
    ],
)
def test_parquet_columns_of_a_wrong_type_are_refused(
    column: str, array: pa.Array, tmp_path: Path
) -> None:
    path = tmp_path / "bad.parquet"
    table = pa.Table.from_pylist([row("q1"), row("q2")])
    pq.write_table(table.set_column(table.column_names.index(column), column, array), path)
    with pytest.raises(SourceError, match=f"row 1, column '{column}'"):
        read_outcomes(path)


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="there is no such file"):
        read_outcomes(tmp_path / "nothing.csv")


def test_row_numbers_of_jsonl_are_line_numbers(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(f"{json.dumps(row())}\n\n\n{json.dumps(row('q2', score=7))}\n")
    with pytest.raises(SourceError, match="row 4, column 'score'"):
        read_outcomes(path)


def test_prompts_with_more_or_fewer_examples_are_one_question(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    long = "Q: 1+1? A: 2\nQ: 2+2?"
    as_jsonl(
        [
            row(model="a", prompt=long),
            row(model="b", prompt="Q: 2+2?"),
            row(model="c", prompt="Q:  2+2?"),
        ],
        path,
    )
    outcomes = read_outcomes(path)
    assert outcomes.table.prompts == (long,)
    assert any("1 queries come with longer and shorter" in note for note in outcomes.notes)


def test_optional_columns_may_be_absent_and_it_is_said(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("query_id,prompt,model,score\n1,Hi,a,1\n1,Hi,b,0.5\n")
    outcomes = read_outcomes(path)
    assert outcomes.table.tasks == (None,)
    assert np.isnan(outcomes.table.cost_usd_NA).all()
    assert any("no column task, prompt_tokens" in note for note in outcomes.notes)


def test_queries_without_a_group_are_grouped_by_their_prompt(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    as_jsonl([row("q1", prompt="Hi  there"), row("q2", prompt="hi there"), row("q3")], path)
    assert read_outcomes(path).table.groups == ("q1", "q1", "q3")


def test_groups_of_the_file_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    as_jsonl([row("q1", dup_group="g"), row("q2", dup_group="g"), row("q3", dup_group=None)], path)
    outcomes = read_outcomes(path)
    assert outcomes.table.groups == ("g", "g", "q3")
    assert outcomes.grouped


def test_recorded_propensities_are_kept_and_unknown_ones_are_one(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    as_jsonl([row("q1", "a", propensity=0.25), row("q2", "b", propensity=None)], path)
    assert_array_equal(read_outcomes(path).table.propensity_NA, [[0.25, 1.0], [1.0, 1.0]])


@pytest.mark.parametrize("extension", FORMATS)
def test_what_is_written_is_read_back(extension: str, tmp_path: Path) -> None:
    rows = [
        row("q1", "a", 0.25, prompt="", note="kept"),
        row("q1", "b", None, prompt="", cost_usd=None, note=None),
        {"query_id": "q2", "prompt": 'a, "b"\nc', "model": "a", "score": 1},
    ]
    path = write_outcomes(rows, tmp_path / f"out.{extension}")
    table = read_outcomes(path).table
    assert table.prompts == ("", 'a, "b"\nc')
    assert table.tasks == ("maths", None)
    assert_array_equal(table.score_NA, [[0.25, np.nan], [1.0, np.nan]])
    assert_array_equal(table.cost_usd_NA, [[0.001, np.nan], [np.nan, np.nan]])
    assert [each.name for each in tmp_path.iterdir()] == [f"out.{extension}"]


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)


@settings(deadline=None)
@given(prompts=st.lists(TEXT, min_size=1, max_size=5), scores=st.floats(0, 1))
def test_any_prompt_survives_any_format(
    prompts: list[str], scores: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = [row(f"q{i}", "a", scores, prompt=prompt) for i, prompt in enumerate(prompts)]
    folder = tmp_path_factory.mktemp("formats")
    for extension in FORMATS:
        table = read_outcomes(write_outcomes(rows, folder / f"x.{extension}")).table
        assert table.prompts == tuple(prompts)
        assert_array_equal(table.score_NA, np.full((len(prompts), 1), scores))


@pytest.mark.parametrize("extension", FORMATS)
def test_rows_are_written_a_few_at_a_time(extension: str, tmp_path: Path) -> None:
    path = tmp_path / f"out.{extension}"
    taken: list[int] = []

    def rows() -> Iterator[Row]:
        for place in range(7):
            taken.append(place)
            yield row(f"q{place}", "a", None if place == 1 else 0.5, task=None)

    assert stream_outcomes(rows(), path, at_once=2) == len(taken) == 7
    table = read_outcomes(path).table
    assert table.query_ids == tuple(f"q{place}" for place in range(7))
    assert_array_equal(table.score_NA[:3, 0], [0.5, np.nan, 0.5])
    with pytest.raises(SourceError, match="row 3, column 'score'"):
        stream_outcomes([row(), row("q2"), row("q3", score=3)], path, at_once=2)
    with pytest.raises(SourceError, match="no rows"):
        stream_outcomes([], path)
    assert len(read_outcomes(path).table.query_ids) == 7
    assert list(tmp_path.iterdir()) == [path]


def test_a_malformed_row_is_not_written_and_nothing_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("old")
    with pytest.raises(SourceError, match="row 2, column 'score'"):
        write_outcomes([row(), row("q2", score=3)], path)
    with pytest.raises(SourceError, match="no rows"):
        write_outcomes([], path)
    with pytest.raises(SourceError, match="row 1, column 'model': missing"):
        write_outcomes([{"query_id": "q", "prompt": "p", "score": 1}], path)
    with pytest.raises(SourceError, match="unknown extension"):
        write_outcomes([row()], tmp_path / "out.txt")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
