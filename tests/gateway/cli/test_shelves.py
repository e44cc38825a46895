"""Shelves are built from the ledger, and what is on them is told with requests."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import pytest

from experts.cards import ExpertCard, Prices
from experts.fakes.scripted import ScriptedExpert, says
from gateway.errors import ConfigError, NothingToLearnError
from routers.errors import RoutingError
from routers.storage.shelf import Shelf
from tests.commands import run
from tests.conftest import Serve, Served
from tests.gateway.cli.test_examples import book

QUESTIONS = ("What is ten plus two?", "What is six plus one?", "Who wrote Faust?")


@pytest.fixture
def served(serve: Serve) -> Served:
    """Good and bad answers to three questions, and an expert that writes guidelines."""
    answers = ScriptedExpert(
        ExpertCard("good", prices=Prices(1, 1)),
        *(says(f"Think of {question} Then say it.") for question in QUESTIONS),
    )
    writer = ScriptedExpert(ExpertCard("writer", prices=Prices(1, 1)), says("Count on fingers."))
    bad = ScriptedExpert(ExpertCard("bad", prices=Prices(1, 1)), says("No idea."))
    served = serve({"good": answers, "bad": bad, "writer": writer})
    for question in QUESTIONS:
        task = "letters" if "Faust" in question else "sums"
        book(served, "good", question, 1.0, {"task": task})
        book(served, "bad", question, 0.0, {"task": task})
    book(served, "good", "A secret", 1.0, {"split": "test"})
    anyio.run(served.gateway.ledger.flush)
    return served


def built(served: Served, path: Path, *words: str) -> Shelf:
    url = served.gateway.settings.ledger_url
    run("shelves", "build", "--ledger", url, "--out", str(path), "--encoder", "hashing", *words)
    return Shelf.load(path)


def test_good_answers_become_examples_and_nothing_held_out(served: Served, tmp_path: Path) -> None:
    shelf = built(served, tmp_path / "examples.shelf")
    assert sorted(example.question for example in shelf.examples) == sorted(QUESTIONS)
    assert all(example.text.startswith("Think of") for example in shelf.examples)
    told = run(
        "shelves", "near", str(tmp_path / "examples.shelf"), "What is TEN plus two?", "--json"
    )
    found = json.loads(told.stdout)
    assert [example["question"] for example in found] == [QUESTIONS[1]], "not its own, nor letters"


def test_a_model_distils_guidelines_through_the_endpoint(served: Served, tmp_path: Path) -> None:
    path = tmp_path / "guidelines.shelf"
    shelf = built(served, path, "--distiller", "writer", "--url", served.url)
    assert {example.text for example in shelf.examples} == {"Count on fingers."}
    writer = served.gateway.pool.experts["writer"]
    assert isinstance(writer, ScriptedExpert)
    shown = [request.question for request in writer.requests]
    assert len(shown) == 3
    assert not any("No idea." in each for each in shown)
    assert any("Think of Who wrote Faust?" in each for each in shown)


def test_what_can_not_be_built_is_one_sentence(served: Served, tmp_path: Path) -> None:
    path = tmp_path / "a.shelf"
    with pytest.raises(ConfigError, match="'nobody' wrote no guideline"):
        built(served, path, "--distiller", "nobody", "--url", served.url)
    with pytest.raises(NothingToLearnError, match="holds no graded answer"):
        built(served, path, "--tag", "task=none")
    with pytest.raises(RoutingError, match="unknown encoder 'odd'"):
        built(served, path, "--encoder", "odd")
    assert not path.exists()
