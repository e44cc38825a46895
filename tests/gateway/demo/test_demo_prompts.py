"""The demo's prompts are well formed, balanced, and can be answered rightly and wrongly."""

from __future__ import annotations

import json
from collections import Counter
from importlib.resources import files
from typing import Any

import pytest

from eval.graders.checks import grade, parse_check
from experts.weights.packaged import PACKAGED

Row = dict[str, Any]

LINES = files("gateway.demo").joinpath("prompts.jsonl").read_text(encoding="utf-8").splitlines()
ROWS: list[Row] = [json.loads(line) for line in LINES]
TASKS = sorted({row["task"] for row in ROWS})


def right_answers(check: Row) -> list[str]:
    """Answers that this check must accept, as far as it shows them itself."""
    if check["kind"] == "numeric":
        return [str(check["answer"]), f"The answer is {check['answer']}."]
    if check["kind"] == "mentions":
        return [*check["answers"], f"It is {check['answers'][0]}."]
    if check["kind"] == "label":
        return [check["answer"], f"The answer is {check['answer']}."]
    if check["kind"] == "json":
        return [json.dumps(check["equals"]), f"Here it is: {json.dumps(check['equals'])}"]
    return []


def score(row: Row, answer: str) -> float | None:
    return grade(parse_check(row["check"]), answer).score


def test_there_are_320_prompts_of_ten_kinds_in_a_balanced_split() -> None:
    assert len(ROWS) == 320
    split = Counter((row["task"], row["split"]) for row in ROWS)
    assert split == {(task, side): n for task in TASKS for side, n in (("train", 20), ("test", 12))}
    assert len(TASKS) == 10


def test_every_row_has_the_same_fields() -> None:
    fields = {"query_id", "task", "split", "prompt", "check"}
    assert {frozenset(row) for row in ROWS} == {frozenset(fields)}


def test_nothing_is_asked_twice_so_that_held_out_prompts_are_new() -> None:
    assert len({row["query_id"] for row in ROWS}) == 320
    prompts = Counter(" ".join(row["prompt"].lower().split()) for row in ROWS)
    assert [prompt for prompt, times in prompts.items() if times > 1] == []


def test_the_prompts_are_short() -> None:
    assert max(len(row["prompt"]) for row in ROWS) <= 160


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["query_id"])
def test_a_right_answer_is_accepted_and_no_answer_is_not(row: Row) -> None:
    for answer in right_answers(row["check"]):
        assert score(row, answer) == 1.0, answer
    for wrong in ("", "I can't say.", "I only answer arithmetic and unit conversion questions."):
        assert score(row, wrong) == 0.0, wrong


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row["task"] == "extraction"], ids=lambda row: row["query_id"]
)
def test_repeating_the_text_is_no_extraction(row: Row) -> None:
    quoted = row["prompt"].split('"')[1]
    assert score(row, quoted) == 0.0
    assert score(row, row["prompt"]) == 0.0


@pytest.mark.parametrize(
    ("query_id", "right", "wrong"),
    [
        ("format-001", ["RIVER", "'RIVER'", "RIVER."], ["river", "The word is RIVER"]),
        ("format-002", ["green", "Green."], ["The colour is green"]),
        ("format-003", ["apple, pear, plum"], ["apple, pear", "apple\npear\nplum"]),
        ("format-006", ["3", "3."], ["The answer is 3.", "33"]),
        ("format-007", ["*cat*", "Here: *cat*"], ["cat", "*dog*"]),
        ("format-008", ["yes"], ["Yes", "yes."]),
        ("format-009", ["b", "B", "The first letter of banana is b."], ["banana", "a"]),
        ("format-014", ["7", "The digit is 7."], ["77", "7 and 8"]),
        ("format-018", ["1 2 3 4 5", "1, 2, 3, 4, 5", "1\n2\n3\n4\n5"], ["1 2 3 4 5 6", "1-5"]),
        ("format-020", ["Hello!", "How are you?"], ["I can't say.", "Hello my dear friend"]),
    ],
)
def test_patterns_accept_what_was_asked_for_and_nothing_else(
    query_id: str, right: list[str], wrong: list[str]
) -> None:
    row = next(row for row in ROWS if row["query_id"] == query_id)
    assert [score(row, answer) for answer in right] == [1.0] * len(right)
    assert [score(row, answer) for answer in wrong] == [0.0] * len(wrong)


@pytest.mark.parametrize("name", [name for name, model in PACKAGED.items() if model.prompt])
def test_no_example_of_a_few_shot_prompt_gives_an_answer_away(name: str) -> None:
    prompt = PACKAGED[name].prompt
    assert prompt is not None
    asked = {row["prompt"].lower() for row in ROWS}
    assert [question for question, _ in prompt.examples if question.lower() in asked] == []
