"""Retraining when the world moves, over a ledger of a world whose truth is known."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine

from gateway.ledger.database import opened
from gateway.ledger.trials import events
from gateway.retrain.cycle import Cycle, StepReport
from gateway.retrain.journal import Journal
from gateway.retrain.watch import drift
from gateway.settings.retrain import DriftSettings, GateSettings, RetrainSettings, TrialSettings
from gateway.telemetry.build import show_drifts
from gateway.telemetry.metrics import Metrics
from routers.fitting.fit import fit_router
from tests.gateway.logged_world import Questions, fill
from tests.gateway.retrain.looping import EPSILON, Loop

BOLD = 0.8


class Moved(Loop):
    """Retraining by drift, over a router that knows the world as it was."""

    def __init__(self, directory: Path, engine: Engine) -> None:
        super().__init__(directory, engine)
        self.journal = Journal(self.store.home("default"))
        self.known = self.serve("ridge").version

    def ask(
        self, count: int, *, turned: bool = False, kinds: tuple[str, ...] = ("gene", "law")
    ) -> None:
        """Requests as ever, or after the biologist and the lawyer swapped what they know."""
        asked = Questions.draw(count, self.rng, kinds)
        columns = [1, 0, 2] if turned else [0, 1, 2]
        asked = Questions(asked.prompts, asked.truth_NA[:, columns])
        fill(self.url, asked, self.rng, serving=self.serving)

    def step(self, *, enough: int = 5000, epsilon: float = 0.0) -> StepReport:
        settings = RetrainSettings(
            estimator="ridge",
            min_new_scores=enough,
            gate=GateSettings(most_decide_ms=1000),
            trial=TrialSettings(shadow_decisions=0, share=0.5),
            drift=DriftSettings(epsilon=epsilon, prompts_reference=200),
        )
        return Cycle("default", self.engine, self.store, settings, EPSILON).step()


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Moved]:
    with opened(f"sqlite:///{tmp_path}/ledger.db") as engine:
        yield Moved(tmp_path, engine)


def test_nothing_is_found_where_nothing_moved(loop: Moved) -> None:
    loop.ask(800)
    report = loop.step()
    assert (report.what, report.reason) == ("waiting", "800 new scores, 5000 are waited for")
    assert loop.told() == []


def test_a_moved_world_is_booked_and_learned_from_before_there_are_many_scores(loop: Moved) -> None:
    loop.ask(400)
    loop.ask(300, turned=True)
    found = loop.step()
    assert found.what == "drifted"
    assert "against what was expected" in found.reason
    waiting = loop.step()
    # The floor of a drift, not the 5,000 of a quiet world.
    assert (waiting.what, waiting.reason) == ("waiting", "0 new scores, 100 are waited for")
    loop.ask(500, turned=True)
    assert loop.step().what == "on_trial"
    loop.ask(500, turned=True)
    ended = loop.step()
    assert ended.what == "promoted"
    assert loop.told() == ["drifted", "fitted", "on_trial", "promoted"]
    state = loop.journal.read()
    assert (state.drifts, state.moved) == (1, 0.0)
    # Those whose competence changed are forgotten, the third is not.
    assert set(state.forgotten) == {"biologist", "lawyer"}


def test_what_another_router_expected_is_no_sign_that_an_expert_changed(loop: Moved) -> None:
    """The one that served before this one had another idea of the scholar."""
    rng = np.random.default_rng(3)
    table = Questions.draw(300, rng).table(rng)
    table.score_NA[:, 2] = 0.0
    gloomy = fit_router("default", "ridge", table, seed=0, epsilon=EPSILON)
    loop.store.promote("default", loop.store.publish(gloomy))
    loop.ask(400)
    loop.store.promote("default", loop.known)
    loop.ask(400)
    loop.ask(300, turned=True)
    assert loop.step().what == "drifted"
    loop.ask(300, turned=True)
    loop.step()
    assert set(loop.journal.read().forgotten) == {"biologist", "lawyer"}


def test_another_test_of_scores_may_be_chosen(loop: Moved) -> None:
    loop.ask(200)
    loop.ask(200, turned=True)
    rules = DriftSettings(detector="adwin")
    found = drift(loop.engine, "default", [loop.known], 0.0, rules)
    assert found is not None
    assert set(found.experts) <= {"biologist", "lawyer"}
    assert drift(loop.engine, "default", [loop.known], found.found, rules) is None


def test_other_prompts_are_booked_and_learned_from(loop: Moved) -> None:
    loop.ask(260)
    assert loop.step().what == "waiting"
    loop.ask(190, kinds=("gene", "sail"))
    found = loop.step()
    assert (found.what, found.version) == ("drifted", loop.known)
    assert found.reason.startswith("what is asked has changed: the last ")
    state = loop.journal.read()
    assert (state.drifts, state.prompts_moved, state.forgotten) == (1, True, {})
    (event,) = events(loop.engine, "default")
    assert (event["event"], event["manifest"]["experts"]) == ("drifted", [])
    loop.ask(150, kinds=("gene", "sail"))
    # What serves may do as well on them, and who is refused ends the matter.
    assert loop.step().what in ("refused", "on_trial")
    assert loop.step().what == "waiting"


def test_prompts_are_compared_once_however_often_one_looks(loop: Moved) -> None:
    loop.ask(400)
    loop.step()
    first = loop.journal.read().compared
    assert first > 0
    loop.step()
    assert loop.journal.read().compared == first
    loop.ask(150)
    loop.step()
    assert loop.journal.read().compared > first


def test_what_serves_explores_more_after_a_drift_if_asked(loop: Moved) -> None:
    loop.ask(300)
    loop.ask(300, turned=True)
    assert loop.step(epsilon=BOLD).what == "drifted"
    loop.step(epsilon=BOLD)
    serving = loop.store.promoted("default")
    assert serving is not None
    assert serving.history == (loop.known,)
    assert loop.store.load("default", serving.version).epsilon == BOLD
    # Once, not at every look.
    loop.step(epsilon=BOLD)
    assert loop.store.promoted("default") == serving


def test_what_serves_and_can_not_be_read_explores_no_more_and_is_replaced(loop: Moved) -> None:
    loop.ask(300)
    loop.ask(300, turned=True)
    assert loop.step(epsilon=BOLD).what == "drifted"
    loop.ask(200, turned=True)
    (loop.store.home("default") / loop.known / "estimator.safetensors").write_bytes(b"")
    assert loop.step(epsilon=BOLD).what in ("on_trial", "refused")
    serving = loop.store.promoted("default")
    assert serving is not None
    assert serving.version == loop.known


def test_what_explores_more_is_what_served_before_and_is_judged_as_one(loop: Moved) -> None:
    loop.ask(300)
    loop.ask(300, turned=True)
    loop.step(epsilon=BOLD)
    loop.ask(90, turned=True)
    assert loop.step(epsilon=BOLD).what == "waiting"
    loop.ask(200, turned=True)
    assert "against what serves, by its own 290 scored decisions" in loop.step(epsilon=BOLD).reason


def test_a_trial_that_began_in_another_world_ends(loop: Moved) -> None:
    loop.ask(100)
    other = loop.store.load("default", loop.known)
    rng = np.random.default_rng(11)
    table = Questions.draw(200, rng).table(rng)
    tried = fit_router("default", "knn", table, seed=0, epsilon=EPSILON)
    loop.store.try_out("default", loop.store.publish(tried), 0.3)
    state = loop.journal.read()
    loop.journal.write(type(state)("on_trial", version=tried.version, incumbent=other.version))
    loop.ask(500, turned=True)
    assert loop.step().what == "drifted"
    serving = loop.store.promoted("default")
    assert serving is not None
    assert (serving.version, serving.trial) == (loop.known, None)
    assert loop.journal.read().stage == "idle"


def test_drifts_are_counted_for_the_watchers_of_the_gateway(loop: Moved) -> None:
    metrics = Metrics()
    show_drifts(metrics, loop.store)
    assert 'pointsman_drifts_total{router="default"} 0.0' in asyncio.run(metrics.text()).decode()
    loop.ask(100)
    loop.ask(300, turned=True)
    loop.step()
    assert 'pointsman_drifts_total{router="default"} 1.0' in asyncio.run(metrics.text()).decode()
