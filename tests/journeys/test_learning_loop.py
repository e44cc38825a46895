"""From logged outcomes to a promoted router, through gateways that serve meanwhile."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from typer.testing import CliRunner

from experts.fakes.provider import FakeProvider
from gateway.cli.main import app
from gateway.routing.router_store import RouterStore
from tests.gateway.logged_world import CARDS, EXPERTS, Questions
from tests.journeys.test_serve import config_in, serving, verdict_in

pytestmark = pytest.mark.slow
THREADS = 8


def settings(provider: FakeProvider, estimator: str) -> dict[str, Any]:
    experts = [
        {
            "id": card.expert_id,
            "base_url": provider.url,
            "prices": {"input": card.prices.input, "output": card.prices.output},
            "quality_prior": card.quality_prior,
        }
        for card in CARDS
        if card.prices is not None
    ]
    return {
        "experts": experts,
        "logging": {"level": "error"},
        "routing": {"epsilon": 0.5, "reload_s": 0.05, "policy": "best"},
        "retrain": {
            "estimator": estimator,
            "min_new_scores": 100,
            # Now and then it finds a drift where there is none, and begins anew.
            "when_drifting": False,
            "gate": {"most_decide_ms": 1000},
            "trial": {"shadow_decisions": 5, "share": 0.4},
        },
    }


class Loop:
    """Clients of a gateway who say how good each answer was, and the command that retrains.

    A score is what can be expected of such an answer. Gateways draw whom they ask without a seed;
    with the luck of right and wrong beside it, a gate of a few hundred scores would err for real.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.store = RouterStore(folder / "data" / "routers")
        self._rng = np.random.default_rng(3)

    def ask(self, count: int) -> list[str]:
        """So many scored requests; returns their decisions."""
        questions = Questions.draw(count, self._rng)
        with (
            httpx2.Client(base_url=self.url, timeout=60, trust_env=False) as client,
            ThreadPoolExecutor(THREADS) as threads,
        ):
            rows = zip(questions.prompts, questions.truth_NA, strict=True)
            return list(threads.map(lambda row: self._one(client, *row), rows))

    def _one(self, client: httpx2.Client, prompt: str, truth_A: Any) -> str:
        body = {
            "model": "auto",
            "messages": [{"role": "user", "content": prompt}],
            "pointsman": {"keep": "full"},
        }
        answer = client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        expert = EXPERTS.index(answer.headers["x-pointsman-expert"])
        decision_id = answer.headers["x-pointsman-decision-id"]
        score = {"decision_id": decision_id, "score": float(truth_A[expert])}
        assert client.post("/v1/feedback", json=score).status_code == 200
        return str(decision_id)

    def versions(self, count: int) -> set[str]:
        """Who decides just now."""
        return {
            httpx2.get(f"{self.url}/v1/decisions/{one}", trust_env=False).json()["version"]
            for one in self.ask(count)
        }

    def retrain(self, *words: str) -> dict[str, Any]:
        command = ["retrain", "--config", str(self.folder / "config.yaml"), "--json", *words]
        told = CliRunner().invoke(app, command)
        assert told.exit_code == 0, told.output
        found: dict[str, Any] = json.loads(told.stdout)
        return found

    def until(self, seen: Callable[[set[str]], bool]) -> set[str]:
        """Ask on until the versions that decide are as wanted: every worker has noticed."""
        until = time.monotonic() + 60
        while True:
            versions = self.versions(16)
            if seen(versions):
                return versions
            assert time.monotonic() < until, f"still {versions}"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_better_router_gets_through_and_a_worse_one_does_not(
    tmp_path: Path, provider: FakeProvider, workers: str
) -> None:
    config = config_in(tmp_path, provider, **settings(provider, "ridge"))
    with serving(config, "--workers", workers) as (url, _):
        loop = Loop(url, tmp_path)
        loop.ask(450)
        first = loop.retrain()
        # Nothing learned served before, so there is nothing to try it beside.
        assert first["what"] == "promoted", first
        loop.until(lambda versions: versions == {first["version"]})

        config_in(tmp_path, provider, **settings(provider, "prior"))
        loop.ask(600)
        worse = loop.retrain()
        assert worse["what"] == "refused"
        assert worse["reason"].startswith("against what serves, by its own ")
        assert ": utility -" in worse["reason"]

        poor = poorer_version(loop)
        loop.until(lambda versions: versions == {poor})
        config_in(tmp_path, provider, **settings(provider, "knn"))
        loop.ask(450)
        better = loop.retrain()
        assert better["what"] == "shadowing", better
        while loop.retrain()["what"] == "waiting":
            loop.ask(40)
        both = {poor, better["version"]}
        loop.until(lambda versions: versions == both)
        while (ended := loop.retrain())["what"] == "waiting":
            loop.ask(100)
        assert (ended["what"], ended["version"]) == ("promoted", better["version"])
        loop.until(lambda versions: versions == {better["version"]})
    verdict = verdict_in(tmp_path)
    assert (verdict.faults, verdict.open_attempts) == ((), 0)


def poorer_version(loop: Loop) -> str:
    """A router that always asks the same, promoted by hand."""
    command = [
        "train", "--ledger", f"sqlite:///{loop.folder}/ledger.db", "--estimator", "prior",
        "--epsilon", "0.5", "--config", str(loop.folder / "config.yaml"), "--promote", "--json",
    ]  # fmt: skip
    told = CliRunner().invoke(app, command)
    assert told.exit_code == 0, told.output
    return str(json.loads(told.stdout)["version"])


def test_serve_retrains_by_itself_and_takes_the_trainer_along_when_it_ends(
    tmp_path: Path, provider: FakeProvider
) -> None:
    sections = settings(provider, "ridge")
    sections["retrain"] |= {"enabled": True, "look_every_s": 0.2, "min_new_scores": 450}
    sections["retrain"]["when_drifting"] = True
    with serving(config_in(tmp_path, provider, **sections)) as (url, process):
        loop = Loop(url, tmp_path)
        loop.ask(450)
        until = time.monotonic() + 120
        while loop.store.promoted("default") is None:
            assert time.monotonic() < until, "nothing was promoted"
            time.sleep(0.2)
        [trainer] = children(process.pid)
        promoted = loop.store.promoted("default")
        assert promoted is not None
        loop.until(lambda versions: versions == {promoted.version})
    until = time.monotonic() + 60
    while Path(f"/proc/{trainer}").exists():
        assert time.monotonic() < until, "the trainer outlives those that serve"
        time.sleep(0.1)


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for each in found for child in each.read_text().split()]
