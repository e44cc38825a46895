"""A pool whose answers are known, with all that may be known of them before and after asking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from threadpoolctl import threadpool_limits

from eval.compositions.answers import answer_key, same_answers
from eval.compositions.drafts import DraftTable
from eval.errors import ComparisonError
from eval.tables.pool import with_experts
from routers.base import RehearsedEstimator
from routers.cascading.posterior import Seen
from routers.deferral.chain import LoggedDrafts
from routers.deferral.cross_fitted import CrossFittedScorer
from routers.deferral.logistic import LogisticRegression
from routers.deferral.scorer import Drafts
from routers.estimators.folds import Rows, group_folds, others
from routers.fitting.fit import Encoded, encode_table, fit_router
from routers.fitting.recipe import Recipe
from routers.records import Floats, OutcomeTable
from routers.router import Router

_FOLDS = 5
_FEWEST = 40
_RIGHT = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """Queries that every expert of the pool answered.

    Attributes:
        table: Their outcomes.
        drafts: What was answered.
        seen: What may be known before and after an answer, by fits that had not seen these rows.
        usd_NA: Dollars expected of each expert.
    """

    table: OutcomeTable
    drafts: DraftTable
    seen: Seen
    usd_NA: Floats

    @property
    def logged(self) -> LoggedDrafts:
        """As a chain of experts is searched on."""
        table = self.table
        return LoggedDrafts(table.experts, self.seen.signal_NA, table.score_NA, table.cost_usd_NA)


@dataclass(frozen=True, slots=True, eq=False)
class CompositionWorld:
    """One pool, what is learned from, and what is judged by."""

    experts: tuple[str, ...]
    train: Side
    test: Side
    router: Router


def make_world(
    train: tuple[OutcomeTable, DraftTable],
    test: tuple[OutcomeTable, DraftTable],
    experts: Sequence[str],
    *,
    seed: int = 0,
    estimator: str = "default",
    calls: bool = False,
    wrong_alike: float | None = None,
    judge: str = "tfidf",
) -> CompositionWorld:
    """Fit what is known before asking (a router) and after (a judge of answers or of samples).

    On the training side everything is by fits that left the row's group out, and on the other by
    fits on the training side, so that both stand for requests that are new.

    Args:
        train: What is learned from, and what was answered there.
        test: What is judged by.
        experts: The pool; queries that one of them did not answer, or at no known cost, are left
            out.
        seed: Source of all randomness.
        estimator: The router's, as `Recipe.read` understands it.
        calls: Whether the answers are calls of tools.
        wrong_alike: Where no answers are recorded, the chance that two wrong ones are taken to say
            the same; right ones always do, and nothing else is known of an answer. None: refuse.
        judge: The encoder through which answers are judged.

    Raises:
        ComparisonError: Too few queries are complete, or there are neither answers nor samples.
    """
    experts = sorted(experts)
    parts = [complete(table, drafts, experts) for table, drafts in (train, test)]
    for table, _ in parts:
        if len(table) < _FEWEST:
            raise ComparisonError(
                f"{len(table)} queries were answered by all of {', '.join(experts)} at a known "
                f"cost, {_FEWEST} are needed on each side"
            )
    (table, drafts), (other, other_drafts) = parts
    with threadpool_limits(limits=1):
        encoded = encode_table(Recipe.read(estimator).encoder, table, seed)
        router = fit_router("before", estimator, table, seed=seed, encoded=encoded)
        unseen_NA, _ = rehearsed(router, encoded, table, estimator, seed)
        ante = unseen_NA, router.estimate(other.prompts)
        rng = np.random.default_rng(seed)
        same: list[Floats | None] = []
        if drafts.has_answers and other_drafts.has_answers:
            signals = _of_answers(parts, rng, judge)
            key = partial(answer_key, calls=calls)
            same += [same_answers(t.prompts, d.answers_NA, key) for t, d in parts]
        elif not np.isnan(drafts.agreement_NA).any():
            signals = _of_samples(parts, rng)
        elif wrong_alike is not None:
            signals = [_known(each, table) for each in (ante[0], ante[1].quality_NA)]
            same += [simulated_agreement(t.score_NA, wrong_alike, rng) for t, _ in parts]
        else:
            raise ComparisonError(
                "the file holds neither the experts' answers (column 'response') nor how many of "
                "their samples agree (column 'agreement'), and how often wrong answers are alike "
                "was not said"
            )
    same = same or [None, None]
    usd = expected_usd(table, other)
    quality = ante[0], _known(ante[1].quality_NA, table)
    sides = [
        Side(each, known, Seen(before, signal, alike), cost)
        for (each, known), before, signal, alike, cost in zip(
            parts, quality, signals, same, usd, strict=True
        )
    ]
    return CompositionWorld(tuple(experts), sides[0], sides[1], router)


def simulated_agreement(score_NA: Floats, wrong_alike: float, rng: np.random.Generator) -> Floats:
    """Who says the same where only scores are known, shape (N, A, A).

    Right answers (scores of .5 and above) are alike. Of the wrong ones to a query each gives its
    most tempting wrong answer with chance √`wrong_alike`, so that two are alike with that chance at
    least, and else one of its own.
    """
    count = score_NA.shape[1]
    tempted_NA = rng.uniform(size=score_NA.shape) < np.sqrt(wrong_alike)
    said_NA = np.where(score_NA >= _RIGHT, -1, np.where(tempted_NA, -2, np.arange(count)))
    return np.where(said_NA[:, :, None] == said_NA[:, None, :], 1.0, 0.0)


def complete(
    table: OutcomeTable, drafts: DraftTable, experts: Sequence[str]
) -> tuple[OutcomeTable, DraftTable]:
    """The queries that all experts answered at a known cost, columns and rows sorted by id.

    Raises:
        ComparisonError: The table does not know one of the experts.
    """
    experts = sorted(experts)
    pool, rows = answered_by_all(table, experts)
    columns = [table.experts.index(expert) for expert in experts]
    return pool, drafts.take(rows.tolist(), columns)


def answered_by_all(table: OutcomeTable, experts: Sequence[str]) -> tuple[OutcomeTable, Rows]:
    """The queries that all experts answered at a known cost, by id, and which rows these were.

    Raises:
        ComparisonError: The table does not know one of the experts.
    """
    missing = [expert for expert in experts if expert not in table.experts]
    if missing:
        raise ComparisonError(f"no outcome of {', '.join(missing)} is known")
    pool = with_experts(table, experts)
    rows = np.flatnonzero(~np.isnan(pool.score_NA + pool.cost_usd_NA).any(axis=1))
    rows = rows[np.argsort(np.array(pool.query_ids, dtype=object)[rows])]
    return pool.take(rows), rows


def rehearsed(
    router: Router, encoded: Encoded, table: OutcomeTable, estimator: str, seed: int
) -> tuple[Floats, Floats]:
    """Qualities, and their standard errors, by fits that had not seen the group of each row."""
    if isinstance(router.estimator, RehearsedEstimator):
        found = router.estimator.out_of_fold(table)
        return _known(found.quality_NA, table), found.stderr_NA
    quality_NA, stderr_NA = (np.full(table.score_NA.shape, np.nan) for _ in range(2))
    recipe = Recipe.read(estimator)
    rng = np.random.default_rng(seed)
    for held in group_folds(table.groups, _FOLDS, rng):
        kept = others(held, len(table))
        trial = recipe.unfitted(calibrate=True).fit(
            encoded.features.take(kept), table.take(kept), rng
        )
        found = trial.predict(encoded.features.take(held))
        quality_NA[held], stderr_NA[held] = found.quality_NA, found.stderr_NA
    return _known(quality_NA, table), stderr_NA


def _known(quality_NA: Floats, table: OutcomeTable) -> Floats:
    """The mean score of an expert where nothing else is expected of it."""
    mean_A = np.nanmean(table.score_NA, axis=0)
    return np.clip(np.where(np.isnan(quality_NA), mean_A, quality_NA), 0, 1)


def _of_answers(
    parts: Sequence[tuple[OutcomeTable, DraftTable]], rng: np.random.Generator, judge: str
) -> list[Floats]:
    """How right each answer looks to FrugalGPT's scorer."""
    (table, drafts), (other, other_drafts) = parts
    unseen_NA, scorer = judged_answers(table, drafts, rng, judge)
    judged = scorer.scores(_as_drafts(other, other_drafts))
    return [unseen_NA, judged.reshape(other.score_NA.shape)]


def judged_answers(
    table: OutcomeTable, drafts: DraftTable, rng: np.random.Generator, judge: str = "tfidf"
) -> tuple[Floats, CrossFittedScorer]:
    """How right each answer looks to a fit that had not seen its group, and the scorer.

    Args:
        table: Complete, see `complete`.
        drafts: With an answer in every cell.
        rng: The only source of chance.
        judge: The encoder of the scorer.
    """
    rows = _as_drafts(table, drafts)
    groups = [group for group in table.groups for _ in table.experts]
    score_R = table.score_NA.ravel()
    # Threads that wait for each other cost more than they bring, and change the last digits.
    with threadpool_limits(limits=1):
        scorer, unseen_R = CrossFittedScorer.fit(rows, score_R, groups, rng, encoder=judge)
    return unseen_R.reshape(table.score_NA.shape), scorer


def judged_samples(drafts: DraftTable) -> Floats:
    """How many of each expert's samples agree, as the gate of a cascade sees it."""
    return drafts.agreement_NA


def _as_drafts(table: OutcomeTable, drafts: DraftTable) -> Drafts:
    prompts = tuple(prompt for prompt in table.prompts for _ in table.experts)
    answers = tuple(answer or "" for row in drafts.answers_NA for answer in row)
    return Drafts(prompts, answers, table.experts * len(table))


def _of_samples(
    parts: Sequence[tuple[OutcomeTable, DraftTable]], rng: np.random.Generator
) -> list[Floats]:
    """P(right) by how many of an expert's samples agree, expert by expert."""
    (table, drafts), (_, other_drafts) = parts
    unseen_NA = np.empty(table.score_NA.shape)
    judged_NA = np.empty(other_drafts.agreement_NA.shape)
    folds = group_folds(table.groups, _FOLDS, rng)
    for column in range(table.score_NA.shape[1]):
        rows = _of_agreement(drafts, column)
        score_N = table.score_NA[:, column]
        for held in folds:
            kept = others(held, len(rows))
            unseen_NA[held, column] = LogisticRegression.fit(rows[kept], score_N[kept]).predict(
                rows[held]
            )
        line = LogisticRegression.fit(rows, score_N)
        judged_NA[:, column] = line.predict(_of_agreement(other_drafts, column))
    return [unseen_NA, judged_NA]


def _of_agreement(drafts: DraftTable, column: int) -> Floats:
    agreement_N = drafts.agreement_NA[:, column]
    return np.column_stack([agreement_N, agreement_N == 1.0])


def expected_usd(table: OutcomeTable, other: OutcomeTable) -> list[Floats]:
    """Dollars of each expert by the length of the prompt, learned from the training side."""
    found = [np.empty(table.cost_usd_NA.shape), np.empty(other.cost_usd_NA.shape)]
    lengths = [np.log1p([len(prompt) for prompt in each.prompts]) for each in (table, other)]
    for column in range(table.cost_usd_NA.shape[1]):
        cost_N = table.cost_usd_NA[:, column]
        slope, offset = np.polyfit(lengths[0], np.log(np.maximum(cost_N, 1e-12)), 1)
        raw = [np.exp(offset + slope * each) for each in lengths]
        scale = cost_N.mean() / raw[0].mean()
        for place in range(2):
            found[place][:, column] = raw[place] * scale
    return found
