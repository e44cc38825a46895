"""What a composition leaves of its way: in the ledger as texts are kept, and to be learned from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from experts.cards import ExpertCard, Prices
from experts.compose.rounds.grammar import fault_of
from experts.fakes.scripted import ScriptedExpert, says
from experts.messages import Usage
from gateway.cli.main import app
from gateway.ids import now
from gateway.ledger.database import opened
from gateway.ledger.forget import forget
from gateway.rounds.logged_traces import logged_traces
from routers.rounds.masks import own_parts
from tests.contracts.composition_cases import pool_of

Serve = Callable[..., Any]
USAGE = Usage(input=3, output=2)
TURNS = (
    says("<think>a</think><search>atlas:capital of Peru", USAGE),
    says("<think>b</think><answer>Lima</answer>", USAGE),
)


def guided(serve: Serve, *turns: Any, **sections: Any) -> Any:
    children = {
        "driver": ScriptedExpert(ExpertCard("driver", prices=Prices(1, 1)), *(turns or TURNS)),
        "atlas": ScriptedExpert(ExpertCard("atlas", prices=Prices(1, 1)), says("Lima, I", USAGE)),
    }
    entry = {"id": "guided", "rounds": {"driver": "driver", "of": ["atlas"]}}
    three = {"id": "three", "vote": {"of": "guided", "n": 3, "at_once": 1}}
    return serve(pool_of(children, entry, three), **sections)


def test_every_step_is_on_record_and_none_reaches_the_client(serve: Serve) -> None:
    served = guided(serve)
    answer = served.ask("guided", "Capital of Peru?")
    assert answer.json()["choices"][0]["message"]["content"] == "Lima"
    assert "think" not in answer.text
    assert "atlas" not in answer.text
    root, *children = served.record(answer)["attempts"]
    assert root["trace"] == [
        {
            "asked": "atlas",
            "text": {
                "wrote": "<think>a</think><search>atlas:capital of Peru</search>",
                "given": "<information>Lima, I</information>",
            },
        },
        {"fault": None, "text": {"wrote": "<think>b</think><answer>Lima</answer>"}},
    ]
    assert [child["trace"] for child in children] == [[], [], []]
    assert served.verified().faults == ()


@pytest.mark.parametrize("mode", ["hash", "none"])
def test_where_no_texts_are_kept_none_of_these_is(serve: Serve, mode: str) -> None:
    served = guided(serve, ledger={"text": mode})
    root = served.record(served.ask("guided"))["attempts"][0]
    assert root["trace"] == [{"asked": "atlas"}, {"fault": None}]


def test_redacted_texts_are_redacted_in_every_step(serve: Serve) -> None:
    turn = says("<think>a</think><search>atlas:who is ann@example.org", USAGE)
    served = guided(serve, turn, TURNS[1], ledger={"text": "redacted"})
    root = served.record(served.ask("guided"))["attempts"][0]
    assert "who is [email]</search>" in root["trace"][0]["text"]["wrote"]


def test_they_are_forgotten_with_the_texts_of_the_request(serve: Serve) -> None:
    served = guided(serve)
    answer = served.ask("guided")
    served.verified()
    with opened(served.gateway.settings.ledger_url) as engine:
        assert forget(engine, {"openai.chat": 1.0}, at=now() + 2 * 86_400) == 1
    assert served.record(answer)["attempts"][0]["trace"] == [{"asked": "atlas"}, {"fault": None}]


def score(served: Any, answer: Any, value: float) -> None:
    body = {"decision_id": answer.headers["x-pointsman-decision-id"], "score": value}
    served.client.post("/v1/feedback", json=body).raise_for_status()


def test_a_good_answer_of_several_is_no_praise_of_each(serve: Serve) -> None:
    quito = says("<think>b</think><answer>Quito</answer>", USAGE)
    served = guided(serve, TURNS[0], quito, *TURNS, *TURNS)
    answer = served.ask("three", "Capital of Peru?")
    assert answer.json()["choices"][0]["message"]["content"] == "Lima"
    score(served, answer, 1.0)
    served.verified()
    with opened(served.gateway.settings.ledger_url) as engine:
        assert list(logged_traces(engine, "guided")) == []


def test_good_conversations_can_be_imitated(serve: Serve, tmp_path: Path) -> None:
    broken = says("Lima", USAGE)
    served = guided(serve, *TURNS, *TURNS, broken)
    for value in (1.0, 0.0, 1.0):
        score(served, served.ask("guided", f"Capital of Peru? ({value})"), value)
    served.verified()
    with opened(served.gateway.settings.ledger_url) as engine:
        (row,) = logged_traces(engine, "guided")
        assert len(list(logged_traces(engine, "guided", least_score=0.0))) == 2
    assert row["question"] == "Capital of Peru? (1.0)"
    assert row["answers"] == ["Lima"]
    assert fault_of(row["transcript"], ["atlas"]) is None
    shown = [text for text, by_driver in own_parts(row["transcript"]) if not by_driver]
    assert shown == ["<information>Lima, I</information>"]

    out = tmp_path / "traces.jsonl"
    url = served.gateway.settings.ledger_url
    words = ["rounds", "traces", "--expert", "guided", "--ledger", url, "--out", str(out)]
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 0, told.output
    assert json.loads(out.read_text()) == row
