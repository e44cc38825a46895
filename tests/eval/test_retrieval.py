"""What a search found, as a figure and as outcomes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval.errors import SourceError
from eval.retrieval import Query, RetrievalSet, ndcg, outcome_rows, read_retrieval
from eval.tables.sources import read_outcomes, write_outcomes

AXES = np.eye(3, dtype=np.float32)
FOUND = RetrievalSet(
    (Query("q1", "one", ("a",), "x"), Query("q2", "two", ("b", "c"))), {n: n for n in "abc"}
)


def test_the_figure_is_the_one_of_the_book() -> None:
    near_QE = np.array([[1, 0.5, 0], [1, 0.5, 0.2]], dtype=np.float32)
    # q1 has its document first; q2 has its two at second and third place of what may be first.
    expected = [1.0, (1 / np.log2(3) + 1 / np.log2(4)) / (1 + 1 / np.log2(3))]
    assert ndcg(near_QE, AXES, FOUND.relevant()) == pytest.approx(expected)
    assert ndcg(near_QE, AXES, FOUND.relevant(), depth=1).tolist() == [1.0, 0.0]


def test_an_embedder_that_tells_nothing_apart_gains_nothing() -> None:
    alike_QE = np.zeros((2, 3), dtype=np.float32)
    assert ndcg(alike_QE, AXES, FOUND.relevant(), depth=1).tolist() == [0.0, 0.0]


def test_outcomes_can_be_trained_from(tmp_path: Path) -> None:
    rows = [
        *outcome_rows(FOUND, np.array([1.0, 0.5]), "e1"),
        *outcome_rows(FOUND, np.array([0.0, 0.25]), "e2"),
    ]
    read = read_outcomes(write_outcomes(rows, tmp_path / "found.parquet")).table
    assert read.experts == ("e1", "e2")
    assert read.score_NA.tolist() == [[1.0, 0.0], [0.5, 0.25]]
    assert read.tasks == ("x", None)


GOOD = {"query_id": "q", "query": "text", "documents": ["a"]}


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ({**GOOD, "documents": ["z"]}, "'z' is no document"),
        ({**GOOD, "documents": []}, "must list ids"),
        ({**GOOD, "query": ""}, "must be a text"),
        ({**GOOD, "task": 7}, "must be a text"),
    ],
)
def test_a_file_that_is_wrong_is_refused_by_row_and_field(
    tmp_path: Path, query: dict[str, Any], where: str
) -> None:
    queries, documents = tmp_path / "q.jsonl", tmp_path / "d.jsonl"
    documents.write_text(json.dumps({"document_id": "a", "text": "text"}))
    queries.write_text(json.dumps({**GOOD, "query_id": "p"}) + "\n" + json.dumps(query))
    with pytest.raises(SourceError, match=where) as caught:
        read_retrieval(queries, documents)
    assert "row 2" in str(caught.value)
    queries.write_text(json.dumps(GOOD))
    assert read_retrieval(queries, documents).queries[0].documents == ("a",)
