"""What a log says of a way to train: fitted on some conversations, judged on the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from eval.errors import OffPolicyError
from eval.ope.asked import LoggedWishes
from eval.ope.candidate import targets, weighed
from eval.ope.judge import Judgement, difference, judge, served_terms
from eval.ope.logged import Logged
from eval.ope.rewards import Rewards, rewards
from eval.ope.study import worth_per_usd
from eval.ope.support import LEAST_EFFECTIVE
from eval.ope.values import Parts, dr
from eval.promotion.gate import Evidence
from eval.replay.training import decision_us_p50
from experts.cards import Prices
from routers.estimators.folds import group_folds
from routers.fitting.fit import fit_router
from routers.records import Floats, OutcomeTable
from routers.router import Router

MOST_WEIGHT = 5.0
"""Of an outcome that is learned from; judging takes recorded chances as they are."""
_FOLDS = 5
_TIMED = 100


@dataclass(frozen=True, slots=True)
class Fitting:
    """How a candidate is made.

    Attributes:
        name: Of the router.
        estimator: What `routers.fitting.recipe.Recipe` reads.
        epsilon: Share of the traffic that explores.
        seed: Source of all randomness.
    """

    name: str
    estimator: str
    epsilon: float
    seed: int


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """What there is to learn from and to judge by.

    Attributes:
        logged: Decisions of the router that serves, scored or not.
        asked: What each of them asked for.
        collected: Outcomes of having asked everybody, or some, on purpose; None without any.
        prices: What policies reckon with.
        serving_N: Which of the decisions the version that serves now made; None: nothing learned
            serves.
    """

    logged: Logged
    asked: LoggedWishes
    collected: OutcomeTable | None
    prices: Mapping[str, Prices | None]
    serving_N: npt.NDArray[np.bool_] | None = None

    def take(self, rows: npt.NDArray[np.intp]) -> Material:
        """Only these decisions, in that order, and all that was collected."""
        serving_N = None if self.serving_N is None else self.serving_N[rows]
        logged, asked = self.logged.take(rows), self.asked.take(rows)
        return replace(self, logged=logged, asked=asked, serving_N=serving_N)

    def scored(self) -> Material:
        """Only decisions with a score.

        Raises:
            OffPolicyError: There is none.
        """
        rows = np.flatnonzero(self.logged.seen.any(axis=1))
        if not len(rows):
            raise OffPolicyError(f"none of the {len(self.logged)} decisions has a score")
        return self.take(rows)

    def training(self) -> OutcomeTable:
        """All that a router may learn from, no outcome weighed more than `MOST_WEIGHT` times.

        Estimators weigh an outcome by one over its propensity. Where a log explores little, a few
        answers would drown all others; what is expected of each expert, given the request, needs
        no weights if the model fits, and a little bias is the lesser evil if it doesn't.
        """
        own = self.logged.table
        table = own if self.collected is None else stacked(own, self.collected)
        return replace(table, propensity_NA=np.maximum(table.propensity_NA, 1 / MOST_WEIGHT))


def train(fitting: Fitting, material: Material) -> Router:
    """The candidate: fitted on everything."""
    return _fit(fitting, material.scored().training())


def evidence(fitting: Fitting, material: Material, candidate: Router) -> Evidence:
    """What the log says of `candidate`, by routers like it that have not seen what they are asked.

    A router that is judged by the very scores it has learned looks better than it is. So the log is
    parted into folds of whole conversations; for each, a router is fitted in the same way to all
    the rest, and it is that one's choices which are judged.

    They are compared with what the version that serves now did on the requests that it decided
    itself. It was fitted before it saw them, so nobody knows them by heart; and against all that
    ever served, a router that is worse than this one may look better by what older ones did. Where
    its own decisions are too few to tell, or nothing learned serves, it is all of them.

    Args:
        fitting: How the candidate was made.
        material: From which.
        candidate: The router that would serve.

    Raises:
        OffPolicyError: Nothing is scored.
        TableError: Too little is left without a fold to fit a router on.
    """
    material = material.scored()
    logged, table = material.logged, material.logged.table
    known = rewards(
        logged,
        candidate.featurizer.transform(table.prompts),
        np.random.default_rng(fitting.seed),
    )
    target_NA, quality_NA = _unseen_choices(fitting, material)
    compared = _compared(material, target_NA, known, fitting.seed)
    chosen_N = target_NA.argmax(axis=1)
    rows = np.arange(len(logged))
    propensity_N = table.propensity_NA[rows, chosen_N]
    return Evidence(
        judgement=compared.judgement,
        against=compared.against,
        gain_N=compared.gain_N,
        groups=compared.groups,
        slices=compared.slices,
        expected_N=quality_NA[rows, chosen_N],
        score_N=table.score_NA[rows, chosen_N],
        weight_N=np.where(np.isnan(propensity_N), 0.0, 1 / np.fmax(propensity_N, 0.02)),
        decide_us=decision_us_p50(candidate, table.prompts[:_TIMED], material.prices),
    )


def stacked(first: OutcomeTable, second: OutcomeTable) -> OutcomeTable:
    """The rows of two tables over all experts of either; what was not asked is not observed."""
    experts = tuple(sorted({*first.experts, *second.experts}))
    parts = [_widened(table, experts) for table in (first, second)]
    joined: dict[str, Any] = {
        each.name: np.concatenate([getattr(part, each.name) for part in parts])
        if each.name.endswith("_NA")
        else sum((getattr(part, each.name) for part in parts), ())
        for each in fields(OutcomeTable)
        if each.name != "experts"
    }
    return OutcomeTable(experts=experts, **joined)


def _widened(table: OutcomeTable, experts: tuple[str, ...]) -> OutcomeTable:
    columns = [experts.index(expert) for expert in table.experts]
    wide: dict[str, Any] = {}
    for each in fields(OutcomeTable):
        if each.name.endswith("_NA"):
            values_NA = np.full((len(table), len(experts)), np.nan)
            values_NA[:, columns] = getattr(table, each.name)
            wide[each.name] = values_NA
    return replace(table, experts=experts, **wide)


def _fit(fitting: Fitting, table: OutcomeTable) -> Router:
    return fit_router(
        fitting.name, fitting.estimator, table, seed=fitting.seed, epsilon=fitting.epsilon
    )


def _unseen_choices(fitting: Fitting, material: Material) -> tuple[Floats, Floats]:
    """P(expert | request) and expected quality, by routers that have not seen the row, (N, A)."""
    logged, everything = material.logged, material.training()
    target_NA = np.zeros(logged.table.score_NA.shape)
    quality_NA = np.full(target_NA.shape, np.nan)
    groups_N = np.array(everything.groups, dtype=object)
    folds = group_folds(logged.table.groups, _FOLDS, np.random.default_rng(fitting.seed))
    for fold in folds or [np.arange(len(logged))]:
        part = logged.take(fold)
        apart = np.flatnonzero(~np.isin(groups_N, sorted(set(part.table.groups))))
        router = _fit(fitting, everything.take(apart))
        estimates = router.estimate(part.table.prompts)
        wanted = material.asked.take(fold)
        queries = weighed(router, part, material.prices, wanted, estimates)
        target_NA[fold] = targets(router, part, queries, wanted, material.prices)
        for row, candidates in zip(fold.tolist(), queries, strict=True):
            columns = [logged.table.experts.index(expert) for expert in candidates.experts]
            quality_NA[row, columns] = candidates.quality_A
    return target_NA, quality_NA


@dataclass(frozen=True, slots=True, eq=False)
class _Compared:
    """The part of `Evidence` that is about what served."""

    judgement: Judgement
    against: str
    gain_N: Floats
    groups: tuple[str, ...]
    slices: Mapping[str, npt.NDArray[np.bool_]]


def _compared(material: Material, target_NA: Floats, known: Rewards, seed: int) -> _Compared:
    logged = material.logged
    if material.serving_N is not None and material.serving_N.sum() >= LEAST_EFFECTIVE:
        own = np.flatnonzero(material.serving_N)
        against = f"what serves, by its own {len(own)} scored decisions"
        found = _on(logged.take(own), target_NA[own], known.take(own), against, seed)
        if not found.judgement.refused:
            return found
    return _on(logged, target_NA, known, f"all that served, {len(logged)} scored decisions", seed)


def _on(logged: Logged, target_NA: Floats, known: Rewards, against: str, seed: int) -> _Compared:
    per_usd = worth_per_usd(logged)
    judgement = judge(
        logged, target_NA, known, cost_weight_per_usd=per_usd, seed=seed, estimators=("dr",)
    )
    gain_N, table = _gains(logged, target_NA, known), logged.table
    return _Compared(judgement, against, gain_N, table.groups, _slices(table))


def _gains(logged: Logged, target_NA: Floats, known: Rewards) -> Floats:
    reward_NA, model_NA = known.score_NA, known.score_model_NA
    own = served_terms(logged, reward_NA, model_NA)
    return difference(dr(Parts.of(logged, target_NA, reward_NA, model_NA)), own).top_N


def _slices(table: OutcomeTable) -> dict[str, npt.NDArray[np.bool_]]:
    tasks_N = np.array(table.tasks, dtype=object)
    return {
        f"task {task}": np.asarray(tasks_N == task)
        for task in sorted({task for task in table.tasks if task is not None})
    }
