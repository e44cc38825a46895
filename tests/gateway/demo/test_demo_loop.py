"""The loop that the demo goes through, over answers of experts that know half of the kinds each."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from eval.graders.checks import grade, parse_check
from experts.cards import Prices
from experts.messages import Usage
from gateway.demo.loop import DemoQuestion, read_questions, run_loop
from gateway.demo.recalled import Said
from routers.records import OutcomeTable

NUMBERS, WORDS = "numbers", "words"
PRICES = {NUMBERS: Prices(1.0, 1.0), WORDS: Prices(2.0, 2.0)}
KINDS = {"numeric": NUMBERS, "label": WORDS, "mentions": WORDS}
"""Who is right about questions that are checked so."""


def right(question: DemoQuestion) -> str:
    check = question.check
    return str(check["answer"] if "answer" in check else check["answers"][0])


def answered(questions: list[DemoQuestion], expert: str) -> dict[str, Said]:
    used = Usage(input=20, output=5)
    return {
        each.text: Said(right(each) if KINDS[each.check["kind"]] == expert else "No idea", used)
        for each in questions
    }


def outcomes(questions: list[DemoQuestion], answers: dict[str, dict[str, Said]]) -> OutcomeTable:
    score_NA = np.array(
        [
            [grade(parse_check(each.check), answers[name][each.text].text).score for name in PRICES]
            for each in questions
        ],
        dtype=np.float64,
    )
    ids = tuple(each.query_id for each in questions)
    unknown_NA = np.full(score_NA.shape, np.nan)
    return OutcomeTable(
        ids, tuple(each.text for each in questions), (None,) * len(ids), ids, tuple(PRICES),
        np.nan_to_num(score_NA), unknown_NA, unknown_NA, unknown_NA, unknown_NA,
        np.ones(score_NA.shape),
    )  # fmt: skip


@pytest.mark.slow
def test_a_better_router_gets_through_it_and_a_worse_one_does_not(tmp_path: Path) -> None:
    path = Path(str(files("gateway.demo").joinpath("prompts.jsonl")))
    questions = [each for each in read_questions(path) if each.check["kind"] in KINDS]
    answers = {name: answered(questions, name) for name in PRICES}
    table = outcomes(questions, answers)
    steps = list(run_loop(tmp_path / "loop", questions, answers, PRICES, table, "ridge"))
    told = ["serves", "asked", "shadowing", "on_trial", "promoted", "answers", "refused"]
    assert [step.what for step in steps] == [*told, "booked", "verified"]
    loop = {step.what: step for step in steps}
    # What was promoted answers, and not what served at first.
    assert loop["answers"].version == loop["promoted"].version != loop["serves"].version
    count = len(questions)
    assert loop["answers"].reason == f"{count} of {count} requests"
    assert "utility -" in loop["refused"].reason
    assert "shadow calls for $" in loop["booked"].reason
    assert loop["verified"].reason.startswith("sums, references")
