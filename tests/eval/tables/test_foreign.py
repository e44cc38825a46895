from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_array_equal

from eval.errors import SourceError
from eval.tables.foreign import FORMS
from eval.tables.sources import Outcomes, read_outcomes
from eval.tables.splits import read_train_test

NAN = float("nan")
ROUTELLM = """prompt,small,large,small_response,large_response
"What is 2 + 2?
Answer:",True,True,4,4
Who wrote it?,False,True,nobody,someone
And this?,,True,,yes
"""
ROUTERBENCH: list[dict[str, Any]] = [
    {
        "sample_id": f"arc.test.{row}",
        "prompt": str([f"Question {row}", "Choose."]) if row else "[1] is a footnote",
        "eval_name": "arc-challenge",
        "small": 0.5 * row,
        "large": None if row else 1.0,
        "small|model_response": "['A']",
        "large|model_response": "['B']",
        "small|total_cost": 1e-5,
        "large|total_cost": 1e-3,
        "oracle_model_to_route_to": "small",
    }
    for row in range(2)
]


def bench(model: str, scores: Sequence[float | None], cost: float = 1e-4, **other: Any) -> str:
    """A file of LLMRouterBench, with the fields that its collector writes."""
    records: list[dict[str, Any]] = [
        {
            "index": row, "origin_query": f"query {row}", "prompt": f"template: query {row}",
            "prompt_tokens": 10 + row, "completion_tokens": 20, "cost": cost, "score": score,
            "prediction": "p", "ground_truth": "g", "raw_output": {}, "extra_fields": {},
        }
        for row, score in enumerate(scores)
    ]  # fmt: skip
    about = {
        "performance": 0.5, "time_taken": 9.0, "prompt_tokens": 99, "cost": 9.9, "counts": 2,
        "model_name": model, "dataset_name": "aime", "split": "test", "demo": False,
    }  # fmt: skip
    return json.dumps({**about, "records": records, **other})


def arena(model: str, scores: Sequence[float | None]) -> str:
    lines = [
        {
            "global_index": f"ArcMMLU_{row}", "question": f"question {row}", "llm_selected": model,
            "generated_answer": "x", "success": True, "error": None,
            "token_usage": {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10},
            "evaluation_result": None if score is None else {
                "extracted_answer": "x", "ground_truth": "y", "score": score,
                "metric": "mcq_accuracy", "inference_cost": 0.002,
            },
        }
        for row, score in enumerate(scores)
    ]  # fmt: skip
    return "\n".join(map(json.dumps, lines)) + "\n\n"


def llmrouter(**other: Any) -> str:
    lines = [
        {
            "task_name": "gsm8k", "query": f"query {row}", "ground_truth": "2", "metric": "GSM8K",
            "choices": None, "task_id": None, "model_name": model, "response": "r",
            "token_num": 12, "input_tokens": 9, "output_tokens": 3, "response_time": 1.5,
            "api_key_used": "", "performance": score, "embedding_id": 40 + row, "user_id": None,
            **other,
        }
        for row in range(2)
        for model, score in (("small", 0.0), ("large", 0.25))
    ]  # fmt: skip
    return "\n".join(map(json.dumps, lines))


GRAPHROUTER = """task_id,query,query_embedding,ground_truth,metric,llm,effect,cost
alpaca,Say it,[[0.1]],it,f1,small,0.4,0.0
alpaca,Say it,[[0.1]],it,f1,large,0.9,1.0
alpaca,Say more,[[0.2]],more,f1,small,0.1,0.3
"""


def read(folder: Path, name: str, text: str, form: str | None = None) -> Outcomes:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return read_outcomes(path, form)


@pytest.mark.parametrize("form", [None, "routellm"])
def test_routellm(form: str | None, tmp_path: Path) -> None:
    found = read(tmp_path, "gsm8k_responses.csv", ROUTELLM, form)
    assert found.table.experts == ("large", "small")
    assert_array_equal(found.table.score_NA, [[1, 1], [1, 0], [1, NAN]])
    assert found.table.tasks == ("gsm8k",) * 3
    assert found.table.prompts[0] == "What is 2 + 2?\nAnswer:"
    assert np.isnan(found.table.cost_usd_NA).all()
    assert "read as a file of routellm. It tells no costs" in found.notes[0]


@pytest.mark.parametrize("form", [None, "routerbench"])
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_routerbench(form: str | None, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"routerbench_0shot.{suffix}"
    table = pa.Table.from_pylist(ROUTERBENCH)
    if suffix == "csv":
        pa.csv.write_csv(table, path)
    else:
        pq.write_table(table, path)
    found = read_outcomes(path, form).table
    assert found.experts == ("large", "small")
    assert found.query_ids == ("arc.test.0", "arc.test.1")
    assert found.tasks == ("arc-challenge",) * 2
    # A list of texts is a conversation; what only begins like one is a text.
    assert found.prompts == ("[1] is a footnote", "Question 1\nChoose.")
    assert_array_equal(found.score_NA, [[1, 0], [NAN, 0.5]])
    assert_array_equal(found.cost_usd_NA[0], [1e-3, 1e-5])


def test_llmrouterbench_has_a_file_per_model(tmp_path: Path) -> None:
    for model, scores in (("small", [0.0, 1.0]), ("large", [1.0, None])):
        folder = tmp_path / "bench" / "aime" / model
        folder.mkdir(parents=True)
        cost = 0.0 if model == "small" else 1e-4
        (folder / f"aime-test-{model}-20260101_000000.json").write_text(bench(model, scores, cost))
    found = read_outcomes(tmp_path / "bench")
    assert found.table.experts == ("large", "small")
    assert found.table.query_ids == ("aime/0", "aime/1")
    assert found.table.prompts == ("query 0", "query 1")
    assert_array_equal(found.table.score_NA, [[1, 0], [NAN, 1]])
    assert_array_equal(found.table.cost_usd_NA, [[1e-4, NAN], [1e-4, NAN]])
    assert_array_equal(found.table.prompt_tokens_NA[1], [11, 11])
    assert any("cost of 0 is taken as unknown" in note for note in found.notes)


def test_routerarena_has_a_file_per_model(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(arena("small", [0.0, None]))
    (tmp_path / "b.jsonl").write_text(arena("large", [1.0, 0.5]))
    found = read_outcomes(tmp_path).table
    assert found.tasks == ("ArcMMLU", "ArcMMLU")
    assert_array_equal(found.score_NA, [[1, 0], [0.5, NAN]])
    assert_array_equal(found.cost_usd_NA, [[0.002, 0.002], [0.002, NAN]])
    assert_array_equal(found.output_tokens_NA[0], [3, 3])


def test_llmrouter(tmp_path: Path) -> None:
    found = read(tmp_path, "default_routing_train_data.jsonl", llmrouter()).table
    assert found.query_ids == ("gsm8k/40", "gsm8k/41")
    assert_array_equal(found.score_NA, [[0.25, 0], [0.25, 0]])
    assert_array_equal(found.latency_s_NA, np.full((2, 2), 1.5))
    without = read(tmp_path, "no_ids.jsonl", llmrouter(embedding_id=None)).table
    assert without.prompts == found.prompts
    assert_array_equal(without.score_NA, found.score_NA)


def test_graphrouter_tells_no_dollars(tmp_path: Path) -> None:
    found = read(tmp_path, "router_data.csv", GRAPHROUTER)
    assert_array_equal(found.table.score_NA, [[0.9, 0.4], [NAN, 0.1]])
    assert np.isnan(found.table.cost_usd_NA).all()
    assert "no dollars" in found.notes[0]


def test_a_foreign_file_can_be_learned_from_and_judged_by(tmp_path: Path) -> None:
    rows = "".join(f"prompt number {row},True,{row % 2 == 0}\n" for row in range(40))
    (tmp_path / "mmlu_x.csv").write_text("prompt,small,large\n" + rows)
    tables = read_train_test(tmp_path / "mmlu_x.csv", tmp_path / "mmlu_x.csv", form="routellm")
    assert len(tables.train) + len(tables.test) == 40


def test_our_own_format_stays_our_own(tmp_path: Path) -> None:
    text = "query_id,prompt,model,score\nq,p,m,0.5\n"
    assert read(tmp_path, "own.csv", text).table.experts == ("m",)


@pytest.mark.parametrize(
    ("name", "text", "form", "message"),
    [
        ("a.csv", "prompt,small,large\np,yes,True\n", None, "a.csv, row 1: small must be a number"),
        ("a.csv", "prompt,small,large\np,7,True\n", None, "row 1, column 'score': .*7"),
        ("a.csv", "prompt,small\np,True\n", None, "column 'query_id': the column is missing"),
        ("a.csv", "prompt,small,large\np,1,1\np,1\n", None, "row 2: has not as many fields"),
        ("a.csv", ROUTELLM, "graphrouter", "not in the format graphrouter: it is missing"),
        ("a.csv", ROUTELLM, "routerllm", "unknown format 'routerllm'; known are routellm, "),
        ("a.csv", "sample_id,prompt,eval_name\n1,p,e\n", "routerbench", "no model is known"),
        ("a.json", bench("m", [1.0], demo=True), None, "row 1: is a trial run"),
        ("a.json", '{"records": 3}', None, "column 'records': must hold a list"),
        ("a.json", bench("m", ["x"]), None, "row 1: score must be a number, got 'x'"),  # type: ignore[list-item]
        ("a.jsonl", arena("m", [1.0]) + "{}", None, "row 3, column .*: missing in this row"),
        ("a.jsonl", llmrouter(query=None), None, "row 1: must be text, got None"),
        ("a.pkl", "", None, "is a pickle, and loading one runs code"),
    ],
)
def test_what_is_wrong_is_named(
    name: str, text: str, form: str | None, message: str, tmp_path: Path
) -> None:
    with pytest.raises(SourceError, match=message):
        read(tmp_path, name, text, form)


def test_a_folder_holds_one_format(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="the folder holds no"):
        read_outcomes(tmp_path)
    (tmp_path / "a.jsonl").write_text(arena("small", [0.0]))
    (tmp_path / "b.jsonl").write_text(llmrouter())
    with pytest.raises(SourceError, match=r"b\.jsonl: is not in the same format as a\.js"):
        read_outcomes(tmp_path)


def test_every_format_is_tested() -> None:
    tests = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in FORMS if f"def test_{name}" not in tests] == []
