"""Examples for fine-tuning come out of the ledger, from what was really asked and graded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import pytest

from experts.cards import ExpertCard, Prices
from experts.fakes.scripted import ScriptedExpert, says
from gateway.errors import ConfigError, NothingToLearnError
from tests.commands import run
from tests.conftest import Serve, Served


def scripted(name: str, text: str, licence: str) -> ScriptedExpert:
    card = ExpertCard(name, prices=Prices(1, 1), tags={"licence": licence})
    return ScriptedExpert(card, says(text))


@pytest.fixture
def served(serve: Serve) -> Served:
    """A right, a wordy and a wrong answer to one question, a wrong one to another."""
    experts = {
        "good": scripted("good", "It is 4", "apache-2.0"),
        "wordy": scripted("wordy", "Well, it is 4", "closed"),
        "bad": scripted("bad", "It is 5", "apache-2.0"),
    }
    served = serve(experts)
    for name, text, score in (
        ("bad", "What is 2 + 2?", 0.0),
        ("good", "what is  2 + 2?", 1.0),
        ("wordy", "What is 2 + 2?", 1.0),
        ("bad", "What is 3 + 3?", 0.0),
    ):
        book(served, name, text, score)
    book(served, "good", "A secret of the test set", 1.0, {"split": "test"})
    anyio.run(served.gateway.ledger.flush)
    return served


def book(
    served: Served, name: str, text: str, score: float, tags: dict[str, str] | None = None
) -> None:
    answer = served.ask(name, text, pointsman={"tags": tags or {}})
    decision_id = answer.headers["x-pointsman-decision-id"]
    body = {"decision_id": decision_id, "score": score, "source": "test"}
    assert served.client.post("/v1/feedback", json=body).status_code == 200


def exported(served: Served, tmp_path: Path, *words: str) -> list[dict[str, Any]]:
    out = tmp_path / "examples.jsonl"
    url = served.gateway.settings.ledger_url
    run("ledger", "export", "--ledger", url, "--out", str(out), *words)
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_the_right_answers_are_exported_and_nothing_held_out(
    served: Served, tmp_path: Path
) -> None:
    rows = exported(served, tmp_path, "--sft")
    said = [(row["prompt"][0]["content"], row["completion"][0]["content"]) for row in rows]
    assert said == [("what is  2 + 2?", "It is 4"), ("What is 2 + 2?", "Well, it is 4")]
    assert [row["licence"] for row in rows] == ["apache-2.0", "closed"]
    free = exported(served, tmp_path, "--sft", "--licence", "apache-2.0")
    assert [row["expert"] for row in free] == ["good"]
    kept = exported(served, tmp_path, "--sft", "--tag", "split=test")
    assert [row["prompt"][0]["content"] for row in kept] == ["A secret of the test set"]


def test_pairs_set_a_right_answer_beside_a_wrong_one(served: Served, tmp_path: Path) -> None:
    rows = exported(served, tmp_path, "--preferences")
    assert [row["experts"] for row in rows] == [["good", "bad"], ["wordy", "bad"]]
    assert rows[0]["chosen"] == [{"role": "assistant", "content": "It is 4"}]
    assert rows[0]["rejected"] == [{"role": "assistant", "content": "It is 5"}]


def test_what_can_not_be_exported_is_one_sentence(served: Served, tmp_path: Path) -> None:
    url = served.gateway.settings.ledger_url
    with pytest.raises(ConfigError, match=r"name a \.jsonl file"):
        run("ledger", "export", "--ledger", url, "--out", "x.csv", "--sft")
    with pytest.raises(ConfigError, match="export twice"):
        run("ledger", "export", "--ledger", url, "--out", "x.jsonl", "--sft", "--preferences")
    with pytest.raises(NothingToLearnError, match="no graded answer makes such an example"):
        exported(served, tmp_path, "--sft", "--licence", "mit")
    assert list(tmp_path.glob("*.jsonl")) == []
