"""Real small models mixed through the endpoint: drafts, notes, guidelines of their own log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from experts.errors import ExpertConfigError
from experts.weights.packaged import packaged_model
from gateway.engines.local import RunningEngines, local_engines
from gateway.ledger.database import opened
from gateway.ledger.verify import verify_ledger
from gateway.running import background_server, make_app
from gateway.settings.root import Settings
from routers.storage.shelf import Shelf
from tests.commands import run

pytestmark = pytest.mark.slow

MODELS = (
    {"kind": "packaged", "package": "smollm2-135m-instruct", "id": "smollm2"},
    {"kind": "packaged", "package": "gemma-3-270m", "id": "gemma"},
)
ASKED = {"Peru": "Lima", "France": "Paris", "Italy": "Rome"}


def settings_in(folder: Path, *compositions: dict[str, Any]) -> Settings:
    return Settings.model_validate(
        {
            "experts": [*MODELS, *compositions],
            "ledger": {"url": f"sqlite:///{folder}/ledger.db", "text": "full"},
            "data_dir": str(folder),
            "server": {"port": 9},
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mixing")


@pytest.fixture(scope="module")
def engines(folder: Path) -> Iterator[RunningEngines]:
    """The engines, which serve all gateways of this module."""
    pytest.importorskip("xllamacpp")
    for model in MODELS:
        try:
            packaged_model(model["package"], folder)
        except ExpertConfigError as error:
            pytest.skip(str(error))
    with local_engines(settings_in(folder)) as running:
        yield running


@pytest.fixture(scope="module")
def shelf(folder: Path, engines: RunningEngines) -> Path:
    """Guidelines that SmolLM2 wrote of what it and Gemma answered rightly."""
    prompts, path = folder / "prompts.jsonl", folder / "guidelines.shelf"
    lines = [
        {
            "query_id": country,
            "task": "capitals",
            "prompt": f"What is the capital of {country}?",
            "check": {"kind": "mentions", "answers": [capital]},
        }
        for country, capital in ASKED.items()
    ]
    prompts.write_text("\n".join(map(json.dumps, lines)))
    url = f"sqlite:///{folder}/ledger.db"
    with background_server(make_app(settings_in(folder), engines, seed=0)) as base:
        told = ("--experts", "smollm2,gemma", "--url", base, "--max-tokens", "16")
        run("collect", "--prompts", str(prompts), *told)
        words = ("--ledger", url, "--distiller", "smollm2", "--url", base)
        run("shelves", "build", "--out", str(path), *words)
    return path


@pytest.fixture(scope="module")
def client(folder: Path, engines: RunningEngines, shelf: Path) -> Iterator[httpx2.Client]:
    both = ["smollm2", "gemma"]
    compositions = (
        {"id": "mixed", "mixture": {"of": both, "aggregator": "smollm2", "draft_tokens": 16}},
        {"id": "own", "self_moa": {"of": "smollm2", "n": 3, "window": 2, "draft_tokens": 16}},
        {"id": "helped", "peers": {"of": ["gemma"], "primary": "smollm2", "draft_tokens": 16}},
        {"id": "heard", "panel": {"of": both, "judge": "smollm2"}},
        {"id": "guided", "templates": {"of": "smollm2", "shelf": str(shelf)}},
        {"id": "shown", "medprompt": {"of": "gemma", "shelf": str(shelf), "runs": 3, "shots": 2}},
        {"id": "quick", "mode": {"of": "smollm2", "how": "instant"}},
    )
    settings = settings_in(folder, *compositions)
    with (
        background_server(make_app(settings, engines, seed=0)) as url,
        httpx2.Client(base_url=url, timeout=120.0, trust_env=False) as client,
    ):
        yield client


@pytest.mark.parametrize(
    ("model", "stream", "calls"),
    [
        ("mixed", False, ["gemma", "smollm2", "smollm2"]),
        ("mixed", True, ["gemma", "smollm2", "smollm2"]),
        ("own", True, ["smollm2"] * 5),
        ("helped", False, ["gemma", "smollm2"]),
        ("heard", True, ["gemma", "smollm2", "smollm2"]),
        ("guided", False, ["smollm2"]),
        ("guided", True, ["smollm2"]),
        ("quick", False, ["smollm2"]),
    ],
)
def test_real_models_make_the_calls_and_are_paid_for_them(
    client: httpx2.Client, folder: Path, model: str, stream: bool, calls: list[str]
) -> None:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "What is the capital of Spain?"}],
        "max_tokens": 16,
        "temperature": 0,
        "stream": stream,
    }
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    text = _text(answer, stream)
    assert text.strip()
    record = client.get(f"/v1/decisions/{answer.headers['x-pointsman-decision-id']}").json()
    (root,) = record["cost"]["attempts"]
    assert sorted(child["expert"] for child in root["children"]) == calls
    assert record["result"]["cost_nanousd"] > 0
    assert record["result"]["cost_complete"] is True
    with opened(f"sqlite:///{folder}/ledger.db") as engine:
        assert verify_ledger(engine).faults == ()


def test_examples_reach_a_base_model_as_turns(client: httpx2.Client) -> None:
    question = "Which is the capital of Spain?\nA) Lisbon\nB) Madrid\nC) Rome"
    body = {
        "model": "shown",
        "messages": [{"role": "user", "content": question}],
        "max_tokens": 16,
        "temperature": 0,
    }
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    record = client.get(f"/v1/decisions/{answer.headers['x-pointsman-decision-id']}").json()
    (root,) = record["cost"]["attempts"]
    made = [child["expert"] for child in root["children"]]
    assert 2 <= len(made) <= 3
    assert set(made) == {"gemma"}


def test_the_guidelines_are_of_the_log_and_never_of_the_question_itself(shelf: Path) -> None:
    held = Shelf.load(shelf)
    assert held.examples
    for example in held.examples:
        assert example.text.strip()
        told = held.near(example.question, len(held.examples))
        assert example.question not in [each.question for each in told]


def _text(answer: httpx2.Response, stream: bool) -> str:
    if not stream:
        return str(answer.json()["choices"][0]["message"]["content"])
    pieces = [
        json.loads(line.removeprefix("data: "))
        for line in answer.text.splitlines()
        if line.startswith("data: {")
    ]
    return "".join(
        choice["delta"].get("content") or "" for piece in pieces for choice in piece["choices"]
    )
