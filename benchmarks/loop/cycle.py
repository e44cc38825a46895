"""The loop on the stream: it serves and logs, and goes through fit, gate and trial.

What `gateway.retrain.cycle` reads from a ledger is here kept in arrays, so that 20,000 requests
take minutes; the code that fits, judges, watches and promotes is the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from benchmarks.loop.arms import PREFERENCE, RECIPE, chances, drawn
from benchmarks.loop.world import COST_A, EXPERTS, PRICES, WORTH, Indices, Stream, shown
from eval.drift.residuals import Residuals, moved, moved_since
from eval.ope.asked import LoggedWishes
from eval.ope.logged import Logged
from eval.promotion.canary import CanaryRules, Failures, judge_canary
from eval.promotion.evidence import Fitting, Material, evidence, stacked, train
from eval.promotion.gate import GateRules, gate
from routers.fitting.fit import fit_router
from routers.records import Floats, OutcomeTable
from routers.router import Router

_NONE_2 = Failures(0, 0), Failures(0, 0)
"""Requests that failed, on either side: here none do."""


@dataclass(frozen=True, slots=True)
class Rules:
    """When the loop does what.

    Attributes:
        first: Requests at the beginning, when little is known and more is explored.
        first_epsilon: Share that explores then.
        epsilon: Share that explores later.
        every: New scores before it learns anew.
        window: Newest decisions that it learns from and is judged by.
        share: Of the requests that a router on trial decides.
        alert_epsilon: Share that explores once something has moved, until a router is promoted.
        alert_scores: New scores before it learns anew, then.
        together: Requests between two looks.
    """

    first: int = 4000
    first_epsilon: float = 0.3
    epsilon: float = 0.02
    every: int = 1000
    window: int = 4000
    share: float = 0.5
    alert_epsilon: float = 0.6
    alert_scores: int = 300
    together: int = 100


@dataclass
class Loop:
    """One run over a stream.

    Args:
        stream: What comes.
        collected: Requests that everybody was asked before it began.
        rules: When it does what.
        seed: Source of all randomness.
    """

    stream: Stream
    collected: Stream
    rules: Rules = field(default_factory=Rules)
    seed: int = 0

    def __post_init__(self) -> None:
        count = len(self.stream)
        shape = (count, len(EXPERTS))
        self.events: list[tuple[int, str, str]] = []
        self.chosen_N = np.zeros(count, dtype=np.intp)
        self._chance_NA, self._expected_N = np.zeros(shape), np.zeros(count)
        self._tried_N = np.zeros(count, dtype=bool)
        # Routers by the order in which they came: a bold copy is the one that it was made of.
        self._version_N = np.zeros(count, dtype=np.intp)
        self._version = self._newest = 0
        self._side_N = np.random.default_rng([self.seed, 2]).random(count)
        everybody = self.collected.table(np.arange(len(self.collected)))
        self._first = replace(everybody, query_ids=_named(everybody), groups=_named(everybody))
        # Answers of an expert before this request count no more.
        self._since_A = np.full(len(EXPERTS), -1)
        self._recipe = Fitting("default", RECIPE, self.rules.first_epsilon, self.seed)
        self._serving = fit_router(
            "default", RECIPE, self._first, seed=self.seed, epsilon=self.rules.first_epsilon
        )
        self._trial: Router | None = None
        self._began = self._learned = self._watched = self._judged = 0
        self._alert: int | None = None

    def run(self) -> Indices:
        """Whom it asks, request by request."""
        for start in range(0, len(self.stream), self.rules.together):
            end = min(start + self.rules.together, len(self.stream))
            self._serve(np.arange(start, end))
            self._look(end)
        return self.chosen_N

    def _serve(self, rows: Indices) -> None:
        tried_N = self._side_N[rows] < self.rules.share
        if self._trial is None:
            tried_N[:] = False
        self._tried_N[rows] = tried_N
        self._version_N[rows] = np.where(tried_N, self._newest, self._version)
        for router, part in ((self._serving, rows[~tried_N]), (self._trial, rows[tried_N])):
            if router is not None and len(part):
                chance_NA, quality_NA = chances(router, self.stream, part)
                chosen_N = drawn(chance_NA, self.stream.draw_N[part])
                self.chosen_N[part], self._chance_NA[part] = chosen_N, chance_NA
                self._expected_N[part] = quality_NA[np.arange(len(part)), chosen_N]

    def _look(self, now: int) -> None:
        """What `Cycle.step` does, after each few requests."""
        if self._recipe.epsilon != self.rules.epsilon and now >= self.rules.first:
            self._recipe = replace(self._recipe, epsilon=self.rules.epsilon)
            self._serving = replace(self._serving, epsilon=self.rules.epsilon)
        if self._alert is None and self._drifted(now):
            return
        if self._trial is not None:
            self._judge_trial(now)
            return
        wanted = self.rules.every if self._alert is None else self.rules.alert_scores
        if now - self._learned >= wanted:
            self._retrain(now)

    def _drifted(self, now: int) -> bool:
        """Whether something has moved; then more is explored, and a trial is pointless."""
        found = moved(self._residuals(self._watched, now))
        if not found:
            return False
        first = min(found, key=lambda each: each.since)
        self._alert = int(first.since)
        self._trial = None
        self._serving = replace(self._serving, epsilon=self.rules.alert_epsilon)
        self._learned = self._judged = now
        self._note(now, "drifted", first.sentence)
        return True

    def _retrain(self, now: int) -> None:
        self._learned = now
        if self._alert is not None:
            seen = self._residuals(max(0, now - self.rules.window), now)
            others = {EXPERTS.index(expert) for expert in moved_since(seen, self._alert)}
            for column in sorted(others):
                self._since_A[column] = max(self._since_A[column], self._alert)
        material = self._material(now)
        candidate = train(self._recipe, material)
        verdict = gate(evidence(self._recipe, material, candidate), GateRules(most_decide_us=1e9))
        if not verdict.passed:
            self._note(now, "refused", verdict.reason)
            return
        self._trial, self._began = candidate, now
        self._newest += 1
        self._note(now, "on trial", verdict.reason)

    def _judge_trial(self, now: int) -> None:
        rows = np.arange(self._began, now)
        chosen_N = self.chosen_N[rows]
        reward_N = self.stream.score_NA[rows, chosen_N] - WORTH * COST_A[chosen_N] / COST_A.mean()
        rules = CanaryRules(share=self.rules.share)
        verdict = judge_canary(reward_N, self._tried_N[rows], _NONE_2, rules)
        if verdict.step == "wait":
            return
        if verdict.step == "promote" and self._trial is not None:
            self._serving, self._watched, self._alert = self._trial, now, None
            self._version = self._newest
        self._trial, self._learned = None, now
        self._note(now, verdict.step, verdict.reason)

    def _material(self, now: int) -> Material:
        """The newest decisions to be judged by; those before something moved only teach."""
        oldest = max(0, now - self.rules.window)
        judged = np.arange(max(oldest, self._judged), now)
        older = np.arange(oldest, judged[0])
        extra = self._without_forgotten(self._first, np.full(len(self._first), -1))
        if len(older):
            extra = stacked(extra, self._without_forgotten(self._log(older), older))
        logged = Logged(self._log(judged), self._chance_NA[judged], np.ones((len(judged), 8), bool))
        asked = LoggedWishes([PREFERENCE] * len(judged))
        serving_N = self._version_N[judged] == self._version
        return Material(logged, asked, extra, dict(PRICES), serving_N)

    def _without_forgotten(self, table: OutcomeTable, rows: Indices) -> OutcomeTable:
        gone_NA = rows[:, None] < self._since_A
        return replace(table, score_NA=np.where(gone_NA, np.nan, table.score_NA))

    def _log(self, rows: Indices) -> OutcomeTable:
        return shown(self.stream.table(rows), self.chosen_N[rows], self._chance_NA[rows])

    def _residuals(self, start: int, end: int) -> Residuals:
        rows = np.arange(start, end)
        chosen_N = self.chosen_N[rows]
        return Residuals(
            [EXPERTS[column] for column in chosen_N.tolist()],
            [None] * len(rows),
            self._expected_N[rows],
            self.stream.score_NA[rows, chosen_N],
            rows.astype(np.float64),
        )

    def _note(self, now: int, what: str, why: str) -> None:
        self.events.append((now, what, why))


def _named(table: OutcomeTable) -> tuple[str, ...]:
    return tuple(f"collected-{row}" for row in range(len(table)))


def utility(stream: Stream, chosen_N: Indices) -> Floats:
    """What could be expected of each answer."""
    values_N: Floats = stream.worth[np.arange(len(stream)), chosen_N]
    return values_N
