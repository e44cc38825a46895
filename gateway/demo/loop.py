"""The learning loop end to end: log, gate, shadow, trial, promotion, through a gateway that serves.

The experts give the answers that they gave when they were collected, so it takes seconds.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx2
import numpy as np
import orjson
from sqlalchemy import Engine, select

from eval.report.report import Step
from experts.cards import ExpertCard, Prices
from gateway.app import create_app
from gateway.demo.recalled import RecalledExpert, Said
from gateway.errors import GatewayError
from gateway.ledger.database import opened, reader
from gateway.ledger.queries import LedgerReader
from gateway.ledger.tables import decision
from gateway.ledger.verify import verify_ledger
from gateway.retrain.cycle import Cycle, StepReport
from gateway.routing.router_store import RouterStore
from gateway.running import background_server
from gateway.settings.root import Settings
from gateway.state import Gateway
from gateway.wiring import build_gateway
from routers.fitting.fit import fit_router
from routers.records import OutcomeTable

_ROUTER = "default"
_EPSILON = 0.3
_CLIENTS = 8
_LOG_PASSES = 2
_MOST_ROUNDS = 15
_WAIT_S = 60.0
_BY_CARDS = "prior"
"""What asks by the cards alone, whatever the question."""


@dataclass(frozen=True, slots=True)
class DemoQuestion:
    """One question of the demo, with what a right answer is."""

    query_id: str
    task: str | None
    text: str
    check: Mapping[str, Any]


def read_questions(path: Path) -> list[DemoQuestion]:
    """Those of a prompts file that can be graded."""
    lines = [orjson.loads(line) for line in path.read_bytes().splitlines() if line.strip()]
    return [
        DemoQuestion(each["query_id"], each.get("task"), each["prompt"], each["check"])
        for each in lines
        if each.get("check")
    ]


def run_loop(
    folder: Path,
    questions: Sequence[DemoQuestion],
    answers: Mapping[str, Mapping[str, Said]],
    prices: Mapping[str, Prices | None],
    table: OutcomeTable,
    estimator: str,
) -> Iterator[Step]:
    """Go through the whole loop once, and say what happens as it does.

    Args:
        folder: For its ledger and routers; what was there is removed.
        questions: What clients ask.
        answers: Expert to question to answer.
        prices: Of every expert.
        table: Outcomes for the router that serves first and goes by the cards alone.
        estimator: What learns.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    settings = _settings(folder, sorted(answers), estimator)
    experts = {
        name: RecalledExpert(ExpertCard(name, prices=prices[name]), answers[name])
        for name in answers
    }
    store = RouterStore(settings.data_dir / "routers")
    first = fit_router(_ROUTER, _BY_CARDS, table, seed=0, epsilon=_EPSILON)
    store.promote(_ROUTER, store.publish(first))
    yield Step("serves", first.version, "goes by the cards alone; " + _exploring())
    gateway = build_gateway(settings, experts, seed=0)
    with background_server(create_app(gateway)) as url, opened(settings.ledger_url) as engine:
        clients = _Clients(url, gateway, questions)
        for _ in range(_LOG_PASSES):
            clients.ask("log")
        yield Step("asked", first.version, _counted(engine))
        cycle = Cycle(_ROUTER, engine, store, settings.retrain, _EPSILON)
        yield from _until_settled(cycle, clients)
        _until_taken_over(store, gateway)
        yield Step("answers", *_most(engine, clients.ask("after")))
        worse = settings.retrain.model_copy(update={"estimator": _BY_CARDS})
        yield _step(Cycle(_ROUTER, engine, store, worse, _EPSILON).step(force=True))
        yield Step("booked", "", _counted(engine))
        faults = verify_ledger(engine).faults
        proof = faults[0] if faults else "sums, references, order and propensities hold"
        yield Step("verified", "", proof)


def _settings(folder: Path, experts: Sequence[str], estimator: str) -> Settings:
    nowhere = "http://127.0.0.1:9/v1"
    return Settings.model_validate(
        {
            "experts": [{"id": name, "base_url": nowhere} for name in experts],
            "data_dir": folder,
            "ledger": {"url": f"sqlite:///{folder}/ledger.db", "text": "full"},
            "routing": {"epsilon": _EPSILON, "reload_s": 0.05},
            "shadow": {"share": 0.1, "budget_usd": 1.0},
            "outcomes": {"most_waiting": 100_000},
            "retrain": {
                "estimator": estimator,
                "min_new_scores": 100,
                "gate": {"most_decide_ms": 50},
                "trial": {"shadow_decisions": 20, "share": 0.4},
            },
        }
    )


def _exploring() -> str:
    return f"explores {_EPSILON:.0%}, and others are asked after 10%"


def _until_settled(cycle: Cycle, clients: _Clients) -> Iterator[Step]:
    """Steps of retraining, with requests between them, until nothing is on trial any more."""
    report = cycle.step()
    yield _step(report)
    for number in range(_MOST_ROUNDS):
        if report.what not in ("shadowing", "on_trial", "waiting"):
            return
        clients.ask(f"trial-{number}")
        report = cycle.step()
        if report.what != "waiting":
            yield _step(report)
    yield _step(report)


def _until_taken_over(store: RouterStore, gateway: Gateway) -> None:
    """Until the gateway, which looks by itself, has what is promoted and tries nothing beside."""
    promoted, until = store.promoted(_ROUTER), time.monotonic() + _WAIT_S
    serving = gateway.serving
    while promoted is not None and time.monotonic() < until:
        if serving.get(_ROUTER).version == promoted.version and serving.tried(_ROUTER) is None:
            return
        time.sleep(0.02)
    raise GatewayError(f"what was promoted does not serve after {_WAIT_S:.0f} s")


def _step(report: StepReport) -> Step:
    return Step(report.what, report.version, report.reason)


def _most(engine: Engine, decisions: Sequence[str]) -> tuple[str, str]:
    """The version that made the most of these decisions, and how many."""
    query = select(decision.c.version).where(decision.c.decision_id.in_(decisions))
    with reader(engine).connect() as connection:
        versions = Counter(connection.execute(query).scalars())
    version, count = versions.most_common(1)[0]
    return version, f"{count} of {versions.total()} requests"


def _counted(engine: Engine) -> str:
    totals = LedgerReader(engine).totals()
    return (
        f"{totals['requests']} requests for ${totals['cost_usd']:.5f}, "
        f"{totals['outcomes']} scores; "
        f"apart from them {totals['shadow_calls']} shadow calls for ${totals['shadow_usd']:.5f}, "
        f"{totals['shadow_outcomes']} scores"
    )


class _Clients:
    """Ask all questions through the endpoint, each with what a right answer is."""

    def __init__(self, url: str, gateway: Gateway, questions: Sequence[DemoQuestion]) -> None:
        self._url = url
        self._gateway = gateway
        self._questions = questions
        self._rng = np.random.default_rng(0)

    def ask(self, phase: str) -> list[str]:
        """Ask, and wait until all is graded; the decision of each."""
        order = self._rng.permutation(len(self._questions)).tolist()
        with (
            httpx2.Client(base_url=self._url, timeout=60, trust_env=False) as client,
            ThreadPoolExecutor(_CLIENTS) as threads,
        ):
            ids = list(threads.map(lambda row: self._one(client, row, phase), order))
            self._await_grades()
        return ids

    def _one(self, client: httpx2.Client, row: int, phase: str) -> str:
        asked = self._questions[row]
        # The same question in the log is one conversation: nobody is judged on what it has seen.
        session = asked.query_id if phase == "log" else f"{phase}:{asked.query_id}"
        wishes = {"check": asked.check, "session": session, "tags": {"task": asked.task or "none"}}
        body = {
            "model": "auto",
            "messages": [{"role": "user", "content": asked.text}],
            "pointsman": wishes,
        }
        answer = client.post("/v1/chat/completions", json=body)
        answer.raise_for_status()
        return str(answer.headers["x-pointsman-decision-id"])

    def _await_grades(self) -> None:
        until = time.monotonic() + _WAIT_S
        while time.monotonic() < until:
            work, grading = self._gateway.lasting.shadows, self._gateway.lasting.scoring.grading
            if not work.tasks and not grading.waiting:
                anyio.run(self._gateway.ledger.flush)
                return
            time.sleep(0.02)
        raise GatewayError(f"answers are not graded after {_WAIT_S:.0f} s")
