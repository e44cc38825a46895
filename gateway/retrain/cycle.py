"""One step of retraining at a time; each can be done again after a crash, with the same result."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from sqlalchemy import Engine

from eval.errors import EvalError
from eval.ope.asked import LoggedWishes
from eval.promotion.canary import judge_canary
from eval.promotion.evidence import Fitting, Material, evidence, train
from eval.promotion.gate import GateVerdict, gate
from eval.replay.operating import WORTH
from experts.cards import Prices
from gateway.errors import ConfigError, NothingToLearnError
from gateway.ids import now
from gateway.ledger.cards import latest_cards
from gateway.ledger.export import as_table, export_outcomes
from gateway.ledger.history import History, history, latest_prices
from gateway.ledger.shadows import count_shadow_scores
from gateway.ledger.trials import count_scores, record_event, shadowed, trial_rows
from gateway.retrain.asked import PromptWatch
from gateway.retrain.journal import Journal, RetrainState
from gateway.retrain.rules import canary_rules, gate_rules
from gateway.retrain.watch import Drift, changed_with, drift, without_forgotten
from gateway.routing.router_store import Promotion, RouterStore, Trial
from gateway.settings.retrain import RetrainSettings
from routers.errors import RoutingError
from routers.named import Named
from routers.records import Floats, OutcomeTable
from routers.storage.artifacts import with_content_version

_log = logging.getLogger(__name__)
_MOST_FAILED = 0.05
_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class StepReport:
    """What a step did: `what` is an event of the ledger, or `waiting`."""

    router: str
    what: str
    version: str
    reason: str


class Cycle:
    """Retraining of one router.

    Args:
        name: The router.
        engine: The ledger.
        store: Where versions are.
        settings: When, and what must be shown.
        epsilon: Share of exploration of what is fitted.
        named: The policies as they are configured: a candidate is judged as it would serve.
        clock: Seconds since 1970.
    """

    def __init__(
        self,
        name: str,
        engine: Engine,
        store: RouterStore,
        settings: RetrainSettings,
        epsilon: float,
        named: Mapping[str, Named] | None = None,
        clock: Callable[[], float] = now,
    ) -> None:
        self._name = name
        self._engine = engine
        self._store = store
        self._settings = settings
        self._recipe = Fitting(name, settings.estimator, epsilon, settings.seed)
        self._named = named or {}
        self._clock = clock
        self._journal = Journal(store.home(name))
        self._prompts = PromptWatch(engine, name, store, settings.drift)

    def step(self, *, force: bool = False) -> StepReport:
        """Do what is to be done next.

        Args:
            force: Fit now, however few scores are new.
        """
        with self._journal.held() as alone:
            if not alone:
                return self._report(RetrainState(), "waiting", "another process is at it")
            state = self._journal.read()
            if state.stage != "fitting":
                found, state = self._drift(state)
                if found:
                    return self._drifted(state, found)
            if state.stage == "shadowing":
                return self._shadow(state)
            if state.stage == "on_trial":
                return self._trial(state)
            if state.stage == "idle":
                self._explore_more(state)
                scores = self._scores()
                new, wanted = scores - state.scores, self._wanted(state)
                if not force and new < wanted:
                    few = f"{new} new scores, {wanted} are waited for"
                    return self._report(state, "waiting", few)
                at = self._clock()
                state = replace(state, stage="fitting", until=at, since=at, scores=scores)
                state = self._journal.write(self._forgetting(state))
            return self._fit(state)

    def _scores(self) -> int:
        """Outcomes so far, of what served and of others that were asked as well."""
        own = count_scores(self._engine, self._name)
        return own + count_shadow_scores(self._engine, self._name)

    def _wanted(self, state: RetrainState) -> int:
        """Scores that are waited for; fewer once the world has moved."""
        few = self._settings.drift.min_new_scores if state.moved else self._settings.min_new_scores
        return min(few, self._settings.min_new_scores)

    def _drift(self, state: RetrainState) -> tuple[Drift | None, RetrainState]:
        """What has moved: what experts are worth, or else what is asked."""
        serving = self._store.promoted(self._name)
        if not self._settings.when_drifting or state.moved or serving is None:
            return None, state
        rules = self._settings.drift
        found = drift(self._engine, self._name, [serving.version], state.watched, rules)
        # A trial divides whatever is asked: other prompts don't make it unfair.
        if found or state.stage != "idle":
            return found, state
        since = max(state.compared, state.watched)
        looked = self._prompts.look(serving.version, since)
        if looked.drift is None and looked.upto > since:
            state = self._journal.write(replace(state, compared=looked.upto))
        return looked.drift, state

    def _drifted(self, state: RetrainState, found: Drift) -> StepReport:
        """Book it, and end a trial that was begun in another world."""
        serving = self._store.withdraw(self._name)
        scores = self._scores()
        state = replace(state, version=serving.version, until=found.found)
        self._book(state, serving.version, "drifted", {"reason": found.reason, **asdict(found)})
        report = self._report(state, "drifted", found.reason)
        later = self._clock()
        forgotten = state.forgotten | dict.fromkeys(found.experts, found.since)
        self._journal.write(
            replace(
                state.ended(known=False),
                scores=scores,
                moved=found.since,
                prompts_moved=not found.experts,
                watched=later,
                drifts=state.drifts + 1,
                forgotten=forgotten,
                judged=later,
            )
        )
        return report

    def _explore_more(self, state: RetrainState) -> None:
        """Serve what serves with more exploration, if that is asked for after a drift."""
        wanted, serving = self._settings.drift.epsilon, self._store.promoted(self._name)
        if not state.moved or not wanted or serving is None:
            return
        try:
            router = self._store.load(self._name, serving.version)
        except (RoutingError, ConfigError) as error:
            # What is fitted next takes its place.
            _log.warning("router %s explores no more than it did: %s", self._name, error)
            return
        if router.epsilon < wanted:
            bold = with_content_version(replace(router, epsilon=wanted))
            self._store.promote(self._name, self._store.publish(bold))

    def _forgetting(self, state: RetrainState) -> RetrainState:
        """With the experts that changed together with those that were found to have."""
        serving = self._store.promoted(self._name)
        if not state.moved or serving is None:
            return state
        versions = self._same(serving)
        changed = changed_with(self._engine, self._name, versions, state.moved, state.until)
        return replace(state, forgotten=state.forgotten | dict.fromkeys(changed, state.moved))

    def _fit(self, state: RetrainState) -> StepReport:
        try:
            material = self._material(state)
            candidate = train(self._recipe, material)
            version = self._store.publish(candidate)
            self._book(state, version, "fitted", candidate.metadata)
            verdict = gate(
                evidence(self._recipe, material, candidate), gate_rules(self._settings.gate)
            )
        except (RoutingError, EvalError, NothingToLearnError) as error:
            return self._back(state, "failed", str(error), {})
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            # Of the same snapshot it would come again, at every look and for good.
            _log.exception("router %s can't be fitted or judged", self._name)
            return self._back(state, "failed", f"{type(error).__name__}: {error}", {})
        state = replace(state, version=version)
        if not verdict.passed:
            return self._back(state, "refused", verdict.reason, _checks(verdict))
        serving = self._store.promoted(self._name)
        if serving is None or serving.version == version:
            # Nothing learned has served, so there is nothing to try it beside.
            self._store.promote(self._name, version)
            return self._back(state, "promoted", verdict.reason, _checks(verdict))
        state = replace(state, incumbent=serving.version, since=self._clock())
        if self._settings.trial.shadow_decisions:
            self._store.try_out(self._name, version, 0.0)
            self._journal.write(replace(state, stage="shadowing"))
            return self._booked(state, "shadowing", verdict.reason, _checks(verdict))
        return self._begin_trial(state, verdict.reason, _checks(verdict))

    def _begin_trial(self, state: RetrainState, reason: str, why: Mapping[str, Any]) -> StepReport:
        share = self._settings.trial.share
        self._store.try_out(self._name, state.version, share)
        state = self._journal.write(replace(state, stage="on_trial", since=self._clock()))
        return self._booked(
            state, "on_trial", f"decides {share:.0%} of the requests; {reason}", why
        )

    def _shadow(self, state: RetrainState) -> StepReport:
        seen = shadowed(self._engine, self._name, state.version, state.since)
        if self._tried(state) is None:
            return self._ended_by_hand(state)
        wanted = self._settings.trial.shadow_decisions
        if seen.decisions < wanted:
            shown = f"shadowed {seen.decisions} of {wanted} decisions"
            return self._report(state, "waiting", shown)
        if seen.failed > _MOST_FAILED * seen.decisions:
            self._store.withdraw(self._name)
            reason = f"failed on {seen.failed} of {seen.decisions} shadowed decisions"
            return self._back(state, "withdrawn", reason, asdict(seen))
        agreed = f"agreed with what served on {seen.agreed} of {seen.decisions} shadowed decisions"
        return self._begin_trial(state, agreed, asdict(seen))

    def _trial(self, state: RetrainState) -> StepReport:
        rows = trial_rows(self._engine, self._name, state.version, state.incumbent, state.since)
        tried = self._tried(state)
        if tried is None:
            return self._ended_by_hand(state)
        # As chance divided them: the settings may have changed since.
        rules = replace(canary_rules(self._settings.trial), share=tried.share)
        utility_N = _utility(rows.score_N, rows.cost_usd_N)
        verdict = judge_canary(utility_N, rows.tried_N, rows.failed_2, rules, rows.groups)
        seen = verdict.seen
        why = {
            "scored": seen.count,
            "tried": seen.canary,
            "conversations": seen.conversations,
        }
        if verdict.step == "wait":
            return self._report(state, "waiting", verdict.reason)
        if verdict.step == "promote":
            self._store.promote(self._name, state.version)
            return self._back(state, "promoted", verdict.reason, why)
        self._store.withdraw(self._name)
        return self._back(state, "withdrawn", verdict.reason, why)

    def _tried(self, state: RetrainState) -> Trial | None:
        """Its trial, unless somebody has ended that."""
        current = self._store.promoted(self._name)
        trial = current.trial if current else None
        return trial if trial and trial.version == state.version else None

    def _ended_by_hand(self, state: RetrainState) -> StepReport:
        current = self._store.promoted(self._name)
        if current and current.version == state.version:
            # Promoted just before the state could be written, or by somebody.
            return self._back(state, "promoted", "it serves already", {})
        return self._back(state, "withdrawn", "its trial was ended by hand", {})

    def _back(
        self, state: RetrainState, event: str, reason: str, why: Mapping[str, Any]
    ) -> StepReport:
        """Book the end of this round, and wait for the next."""
        report = self._booked(state, event, reason, why)
        # Other prompts may be answered as well as ever: who was refused then says so.
        known = event == "promoted" or (event == "refused" and state.prompts_moved)
        self._journal.write(state.ended(known=known))
        return report

    def _booked(
        self, state: RetrainState, event: str, reason: str, why: Mapping[str, Any]
    ) -> StepReport:
        self._book(state, state.version, event, {"reason": reason, **why})
        return self._report(state, event, reason)

    def _book(self, state: RetrainState, version: str, event: str, why: Mapping[str, Any]) -> None:
        record_event(self._engine, self._name, version, event, state.until, why)

    def _report(self, state: RetrainState, what: str, reason: str) -> StepReport:
        return StepReport(self._name, what, state.version, reason)

    def _same(self, serving: Promotion) -> list[str]:
        """What serves, and what it was before it was made to explore more, if it was."""
        before = serving.history[-1:]
        apart = [self._but_for_chance(version) for version in (serving.version, *before)]
        return [serving.version, *(before if len(apart) > 1 and apart[0] == apart[1] else ())]

    def _but_for_chance(self, version: str) -> Mapping[str, Any]:
        """What a version's manifest says, without how much it explores and what follows of that."""
        try:
            told = self._store.manifest(self._name, version)
        except (OSError, ValueError):
            # It can't be read: it is like no other.
            return {"version": version}
        return {name: value for name, value in told.items() if name not in ("epsilon", "version")}

    def _material(self, state: RetrainState) -> Material:
        days = self._settings.window_days
        since = 0.0 if days is None else state.until - days * _DAY_S
        found: History = history(
            self._engine,
            self._name,
            since=since,
            until=state.until,
            newest=self._settings.window,
        )
        serving = self._store.promoted(self._name)
        unknown: dict[str, Prices | None] = dict.fromkeys(found.logged.table.experts)
        asked = LoggedWishes(
            found.preferences, found.policies, self._named, latest_cards(self._engine)
        )
        material = Material(
            found.logged,
            asked,
            _collected(self._engine, since, state.forgotten),
            unknown | latest_prices(self._engine),
            None if serving is None else np.isin(found.versions, self._same(serving)),
        )
        return without_forgotten(material, found.at_N, state.forgotten, state.judged)


def _collected(engine: Engine, since: float, forgotten: Mapping[str, float]) -> OutcomeTable | None:
    """What was asked on purpose, such as by `collect`."""
    try:
        return as_table(export_outcomes(engine, named_only=True, since=forgotten, after=since))
    except NothingToLearnError:
        return None


def _utility(score_N: Floats, cost_N: Floats) -> Floats:
    """Scores, less what their cost is worth where all of it is known."""
    spent = float(np.mean(cost_N)) if len(cost_N) else 0.0
    if not spent > 0:
        return score_N
    return score_N - WORTH * cost_N / spent


def _checks(verdict: GateVerdict) -> dict[str, Any]:
    return {"checks": [asdict(check) for check in verdict.checks]}
