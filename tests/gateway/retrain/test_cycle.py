"""Retraining, step by step, over a ledger of a world whose truth is known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, select

from eval.promotion.canary import CanaryVerdict, Failures, judge_canary
from gateway.ids import new_id, now
from gateway.ledger.database import opened
from gateway.ledger.history import history
from gateway.ledger.inserts import grouped, insert
from gateway.ledger.rows import Row
from gateway.ledger.tables import (
    decision,
    outcome,
    request,
    request_result,
    router_version,
    shadow_decision,
    shadow_outcome,
)
from gateway.ledger.trials import TrialRows, trial_rows
from gateway.retrain.cycle import Cycle, StepReport
from gateway.retrain.journal import Journal
from gateway.routing.router_store import RouterStore
from gateway.routing.serving import ServingRouters
from gateway.settings.retrain import GateSettings, RetrainSettings, TrialSettings
from tests.gateway.logged_world import Questions, fill
from tests.gateway.retrain.looping import EPSILON, Loop


class Trials(Loop):
    """Retraining with trials over a loop."""

    def ask(
        self, count: int, shadow: float = 0.0, kinds: tuple[str, ...] = ("gene", "law")
    ) -> None:
        """So many requests, decided by what serves and what is tried."""
        asked = Questions.draw(count, self.rng, kinds)
        fill(self.url, asked, self.rng, serving=self.serving, shadow=shadow)

    def step(
        self,
        estimator: str = "ridge",
        *,
        force: bool = False,
        window: int | None = None,
        **trial: float,
    ) -> StepReport:
        settings = RetrainSettings(
            window=window,
            estimator=estimator,
            min_new_scores=100,
            when_drifting=False,
            gate=GateSettings(most_decide_ms=1000),
            trial=TrialSettings.model_validate({"shadow_decisions": 0, "share": 0.3, **trial}),
        )
        cycle = Cycle("default", self.engine, self.store, settings, EPSILON)
        return cycle.step(force=force)

    def shadow(self, version: str, count: int, failed: int) -> None:
        rows = [
            Row(
                shadow_decision,
                {
                    "shadow_id": new_id("shd"),
                    "at": now(),
                    "router": "default",
                    "served_version": "v",
                    "served_expert": "lawyer",
                    "version": version,
                    "expert_id": None if number < failed else "lawyer",
                },
            )
            for number in range(count)
        ]
        with self.engine.begin() as connection:
            insert(connection, grouped(rows))


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Trials]:
    with opened(f"sqlite:///{tmp_path}/ledger.db") as engine:
        yield Trials(tmp_path, engine)


def test_too_few_new_scores_are_waited_for(loop: Trials) -> None:
    loop.ask(60)
    report = loop.step()
    assert (report.what, report.reason) == ("waiting", "60 new scores, 100 are waited for")


def test_scores_of_anything_but_quality_are_not_waited_for(loop: Trials) -> None:
    """That a question was put again is booked as a 0 of its own; nothing is learned from that."""
    loop.ask(120, shadow=0.5)
    with loop.engine.begin() as connection:
        for scores in (outcome, shadow_outcome):
            connection.execute(scores.update().values(objective="regenerated"))
    assert loop.step().reason == "0 new scores, 100 are waited for"


def test_the_first_router_that_passes_the_gate_serves_at_once(loop: Trials) -> None:
    loop.ask(500)
    report = loop.step()
    assert report.what == "promoted"
    promoted = loop.store.promoted("default")
    assert promoted is not None
    assert promoted.version == report.version
    assert loop.told() == ["fitted", "promoted"]
    assert loop.step().what == "waiting"


def test_the_gate_refuses_a_worse_router_and_says_why(loop: Trials) -> None:
    good = loop.serve("ridge")
    loop.ask(500)
    # It always asks the same expert.
    report = loop.step("prior")
    assert report.what == "refused"
    assert "utility -" in report.reason
    promoted = loop.store.promoted("default")
    assert promoted is not None
    assert (promoted.version, promoted.trial) == (good.version, None)
    assert loop.told() == ["fitted", "refused"]


def test_what_served_before_makes_nobody_better_than_what_serves(loop: Trials) -> None:
    kinds = ("gene",) * 4 + ("law",)
    # An untrained router asks the lawyer mostly; whoever asks the biologist always is better.
    loop.ask(450, kinds=kinds)
    loop.serve("ridge")
    loop.ask(350, kinds=kinds)
    report = loop.step("prior")
    assert report.what == "refused"
    compared = "against what serves, by its own 350 scored decisions: utility -"
    assert report.reason.startswith(compared)


def test_a_better_router_is_tried_and_then_promoted(loop: Trials) -> None:
    poor = loop.serve("prior")
    loop.ask(600)
    began = loop.step()
    assert began.what == "on_trial"
    trial = loop.store.promoted("default")
    assert trial is not None
    assert trial.trial is not None
    assert (trial.version, trial.trial.version, trial.trial.share) == (
        poor.version,
        began.version,
        0.3,
    )
    assert loop.step().what == "waiting"
    loop.ask(500)
    ended = loop.step()
    assert ended.what == "promoted"
    promoted = loop.store.promoted("default")
    assert promoted is not None
    assert (promoted.version, promoted.trial, promoted.history) == (
        began.version,
        None,
        (poor.version,),
    )
    assert loop.told() == ["fitted", "on_trial", "promoted"]


def test_a_router_that_does_worse_on_trial_is_taken_back(loop: Trials) -> None:
    poor = loop.serve("prior")
    loop.ask(600)
    began = loop.step()
    # The world turns over: what was learned is now wrong.
    turned = Questions.draw(900, loop.rng)
    turned = Questions(turned.prompts, turned.truth_NA[:, [1, 0, 2]])
    serving = ServingRouters(loop.store, "default", EPSILON)
    serving.refresh()
    fill(loop.url, turned, loop.rng, serving=serving)
    ended = loop.step()
    assert (began.what, ended.what) == ("on_trial", "withdrawn")
    promoted = loop.store.promoted("default")
    assert promoted is not None
    assert (promoted.version, promoted.trial) == (poor.version, None)


def test_without_any_exploration_shadow_calls_tell_what_a_new_router_is_worth(loop: Trials) -> None:
    """What serves asks the same expert always: of the others the log says nothing by itself."""
    loop.serve("prior", epsilon=0.0)
    loop.ask(600)
    assert loop.step().what in ("failed", "refused")
    loop.ask(900, shadow=0.3)
    began = loop.step(window=900)
    assert began.what == "on_trial", began.reason


def test_what_is_older_than_the_window_is_learned_from_no_more(loop: Trials) -> None:
    """Else a world that turned over once would weigh for ever, wherever no drift is noticed."""
    turned = Questions.draw(600, loop.rng)
    turned = Questions(turned.prompts, turned.truth_NA[:, [1, 0, 2]])
    fill(loop.url, turned, loop.rng)
    loop.ask(400)
    whole, newest = history(loop.engine, "default"), history(loop.engine, "default", newest=400)
    assert (len(whole.logged), len(newest.logged)) == (1000, 400)
    assert newest.logged.table.prompts == whole.logged.table.prompts[600:]
    loop.step(window=400)
    promoted = loop.store.promoted("default")
    assert promoted is not None
    router = loop.store.load("default", promoted.version)
    law_A, gene_A = router.estimate(["court statute judge appeal", "cell enzyme"]).quality_NA
    # The biologist is the first, the lawyer the second.
    assert law_A[1] > law_A[0]
    assert gene_A[0] > gene_A[1]


def test_it_shadows_first_and_fails_there_unseen(loop: Trials) -> None:
    loop.serve("prior")
    loop.ask(600)
    began = loop.step(shadow_decisions=40)
    assert began.what == "shadowing"
    loop.shadow(began.version, 30, failed=0)
    assert loop.step(shadow_decisions=40).reason == "shadowed 30 of 40 decisions"
    loop.shadow(began.version, 10, failed=10)
    ended = loop.step(shadow_decisions=40)
    assert ended.what == "withdrawn"
    assert ended.reason == "failed on 10 of 40 shadowed decisions"
    assert loop.told() == ["fitted", "shadowing", "withdrawn"]


def test_a_shadow_that_never_fails_goes_on_trial(loop: Trials) -> None:
    loop.serve("prior")
    loop.ask(600)
    began = loop.step(shadow_decisions=40)
    loop.shadow(began.version, 40, failed=0)
    ended = loop.step(shadow_decisions=40)
    assert ended.what == "on_trial"
    assert "agreed with what served on 40 of 40" in ended.reason


def test_critical_requests_say_nothing_of_a_trial(loop: Trials) -> None:
    """They never go to what is tried, so they are others than those that chance divided."""
    poor = loop.serve("prior")
    loop.ask(600)
    began = loop.step()
    loop.ask(50)
    serving = ServingRouters(loop.store, "default", EPSILON)
    serving.refresh()
    fill(loop.url, Questions.draw(20, loop.rng), loop.rng, serving=serving, explore=False)
    rows = trial_rows(loop.engine, "default", began.version, poor.version, since=0.0)
    assert len(rows.score_N) == 650


def test_one_failed_request_ends_no_trial_and_a_conversation_fails_as_one(loop: Trials) -> None:
    poor = loop.serve("prior")
    loop.ask(600)
    began = loop.step()
    loop.ask(12)
    with loop.engine.begin() as connection:
        of_version = select(decision.c.request_id, decision.c.version).order_by(
            decision.c.at.desc()
        )
        last = connection.execute(of_version.limit(12)).all()
        own = [row.request_id for row in last if row.version == began.version]
        others = [row.request_id for row in last if row.version == poor.version]
        fails = request_result.c.request_id.in_([own[0], *others[:3]])
        connection.execute(request_result.update().where(fails).values(status=503))
        talk = request.c.request_id.in_(others[:4])
        connection.execute(request.update().where(talk).values(session="one"))
    rows = trial_rows(loop.engine, "default", began.version, poor.version, since=0.0)
    assert rows.failed_2 == (Failures(1.0, len(own)), Failures(0.75, 600 + len(others) - 3))
    assert loop.step().what == "waiting"


def test_a_trial_that_a_person_ended_is_over(loop: Trials) -> None:
    loop.serve("prior")
    loop.ask(600)
    loop.step()
    loop.store.withdraw("default")
    report = loop.step()
    assert (report.what, report.reason) == ("withdrawn", "its trial was ended by hand")
    assert loop.step().what == "waiting"


class DiesError(Exception):
    """Stands for a killed process."""


@pytest.mark.parametrize("fatal", ["publish", "try_out", "promote"])
def test_a_crash_at_any_step_is_made_up_for_exactly_once(
    loop: Trials, fatal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop.serve("prior")
    loop.ask(600)
    done = getattr(RouterStore, fatal)

    def dies(*given: object) -> None:
        done(*given)
        raise DiesError

    died = asked = False
    for _ in range(6):
        with monkeypatch.context() as patch:
            if not died:
                patch.setattr(RouterStore, fatal, dies)
            try:
                loop.step()
            except DiesError:
                died = True
        if "promoted" in loop.told():
            break
        if Journal(loop.store.home("default")).read().stage == "on_trial" and not asked:
            loop.ask(500)
            asked = True
    assert died
    assert loop.told() == ["fitted", "on_trial", "promoted"]
    assert len(loop.store.versions("default")) == 2


def test_a_trial_that_a_person_ends_while_it_is_judged_is_over(
    loop: Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = loop.serve("prior")
    loop.ask(600)
    loop.step()
    loop.ask(500)

    def rows_and_an_end(engine: Engine, *of: Any) -> TrialRows:
        found = trial_rows(engine, *of)
        loop.store.withdraw("default")
        return found

    monkeypatch.setattr("gateway.retrain.cycle.trial_rows", rows_and_an_end)
    ended = loop.step()
    assert (ended.what, ended.reason) == ("withdrawn", "its trial was ended by hand")
    assert loop.serving.get("default").version == first.version


def test_a_trial_is_judged_by_the_share_that_it_has(
    loop: Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings may have changed since, and chance has divided the requests as it did."""
    loop.serve("prior")
    loop.ask(600)
    loop.step(share=0.3)
    loop.ask(40)
    shares = []

    def judged(*given: Any) -> CanaryVerdict:
        shares.append(given[3].share)
        return judge_canary(*given)

    monkeypatch.setattr("gateway.retrain.cycle.judge_canary", judged)
    assert loop.step(share=0.7).what == "waiting"
    assert shares == [0.3]


def test_two_processes_do_not_step_on_each_other(loop: Trials) -> None:
    loop.ask(500)
    with Journal(loop.store.home("default")).held() as alone:
        assert alone
        report = loop.step()
    assert report.reason == "another process is at it"
    with loop.engine.connect() as connection:
        assert connection.execute(select(router_version)).all() == []


def test_nothing_to_learn_from_is_told_and_not_tried_again_at_once(loop: Trials) -> None:
    report = loop.step(force=True)
    assert report.what == "failed"
    assert "holds no decision of router 'default'" in report.reason
    assert loop.step().what == "waiting"


def test_a_snapshot_that_nothing_can_be_fitted_to_is_not_tried_for_good(
    loop: Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    def singular(*_given: object) -> None:
        raise np.linalg.LinAlgError("Singular matrix")

    loop.ask(120)
    with monkeypatch.context() as patch:
        patch.setattr("gateway.retrain.cycle.train", singular)
        report = loop.step()
    assert (report.what, report.reason) == ("failed", "LinAlgError: Singular matrix")
    assert loop.told() == ["failed"]
    assert loop.step().what == "waiting"
