"""What a router expected of training queries that a fit had not seen, kept beside the router.

Policies whose parameters are chosen on such queries (`routers.base.FittedPolicy`) need nothing
else, so a share, a budget or a risk is said when it serves, at the prices of then, without training
again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from experts.cards import ExpertCard
from experts.messages import ChatRequest
from routers.base import Estimator, RehearsedEstimator
from routers.candidates import Typical, row_of, weigh
from routers.errors import TableError
from routers.estimators.folds import group_folds, others
from routers.fitting.practice import Practice
from routers.records import Estimates, FeatureBatch, Floats, OutcomeTable, Preference, State

_MOST_ROWS = 2000
_FOLDS = 5
_NO_TEXT = ChatRequest(())
_EXPECTED = ("quality", "stderr", "output_tokens", "latency_s")
_OBSERVED = ("score", "prompt_tokens", "written_tokens", "cost_usd", "propensity")


@dataclass(frozen=True, slots=True, eq=False)
class Rehearsal:
    """Estimates for queries that were left out of the fit that made them, and the outcomes.

    Attributes:
        estimates: What was expected, N rows.
        prompt_tokens_N: Estimated tokens of each prompt, >= 1.
        score_NA: As in `OutcomeTable`, and so are the next four.
        read_NA: Tokens read.
        written_NA: Tokens written.
        cost_usd_NA: Dollars as they were recorded.
        propensity_NA: P(this expert was asked).
    """

    estimates: Estimates
    prompt_tokens_N: Floats
    score_NA: Floats
    read_NA: Floats
    written_NA: Floats
    cost_usd_NA: Floats
    propensity_NA: Floats

    @classmethod
    def of(
        cls,
        unseen: Estimates,
        features: FeatureBatch,
        table: OutcomeTable,
        rng: np.random.Generator,
    ) -> Self | None:
        """At most 2000 of the rows, one of each group of near-identical queries; None without any.

        Args:
            unseen: Estimates of `table`'s rows by fits that had not seen them; rows with no
                quality at all were left out of no fit, and are passed over.
            features: One row per row of `table`.
            table: What came of them.
            rng: Decides which rows.
        """
        told_N = ~np.isnan(unseen.quality_NA).all(axis=1)
        shuffled = rng.permutation(np.flatnonzero(told_N))
        groups = np.array(table.groups, dtype=object)[shuffled].astype(str)
        _, firsts = np.unique(groups, return_index=True)
        rows = np.sort(shuffled[np.sort(firsts)[:_MOST_ROWS]])
        if not len(rows):
            return None
        columns = (
            unseen.quality_NA,
            unseen.stderr_NA,
            unseen.output_tokens_NA,
            unseen.latency_s_NA,
        )
        return cls(
            Estimates(unseen.experts, *(_short(column[rows]) for column in columns)),
            features.prompt_tokens_N[rows],
            *(
                _short(column[rows])
                for column in (
                    table.score_NA,
                    table.prompt_tokens_NA,
                    table.output_tokens_NA,
                    table.cost_usd_NA,
                    table.propensity_NA,
                )
            ),
        )

    def __len__(self) -> int:
        return len(self.prompt_tokens_N)

    def practice(
        self, cards: Sequence[ExpertCard], typical: Typical, preference: Preference
    ) -> Practice:
        """The queries as a policy would weigh them now, when everybody in `cards` is eligible.

        An expert that was not there in training has its card's prior and no outcome.

        Args:
            cards: The pool that serves, with its prices, sorted by id.
            typical: What costs and latencies are measured against.
            preference: Its soft flags.

        Raises:
            TableError: The pool is empty.
        """
        queries = tuple(
            weigh(
                _NO_TEXT,
                tokens,
                cards,
                cards,
                row_of(self.estimates, row),
                typical,
                preference.prefer,
            )[0]
            for row, tokens in enumerate(self.prompt_tokens_N.tolist())
        )
        known = {expert: column for column, expert in enumerate(self.estimates.experts)}
        paid_NA = np.full((len(self), len(cards)), np.nan)
        score_NA, propensity_NA = paid_NA.copy(), np.ones_like(paid_NA)
        for place, card in enumerate(cards):
            if card.expert_id not in known:
                continue
            column = known[card.expert_id]
            score_NA[:, place] = self.score_NA[:, column]
            propensity_NA[:, place] = self.propensity_NA[:, column]
            paid_NA[:, place] = self._paid(card, column)
        composed = frozenset(card.expert_id for card in cards if card.composed)
        return Practice(queries, score_NA, paid_NA, propensity_NA, composed)

    def _paid(self, card: ExpertCard, column: int) -> Floats:
        """What the answers of one expert would cost now; as recorded where tokens are unknown."""
        recorded_N = self.cost_usd_NA[:, column]
        if card.prices is None:
            return recorded_N
        read_N, written_N = self.read_NA[:, column], self.written_NA[:, column]
        price = card.prices
        now_N = (read_N * price.input + written_N * price.output) / 1e6 + price.request
        return np.where(np.isnan(now_N), recorded_N, now_N)

    def state(self) -> State:
        """What `from_state` makes it of again."""
        columns = [
            self.estimates.quality_NA,
            self.estimates.stderr_NA,
            self.estimates.output_tokens_NA,
            self.estimates.latency_s_NA,
            self.score_NA,
            self.read_NA,
            self.written_NA,
            self.cost_usd_NA,
            self.propensity_NA,
        ]
        named = zip((*_EXPECTED, *_OBSERVED), columns, strict=True)
        arrays: dict[str, npt.NDArray[np.generic]] = {
            name: column_NA.astype(np.float32) for name, column_NA in named
        }
        arrays["tokens"] = self.prompt_tokens_N
        return {"experts": list(self.estimates.experts)}, arrays

    @classmethod
    def from_state(cls, state: State) -> Self:
        params, arrays = state
        expected, observed = (
            [arrays[name].astype(np.float64) for name in names] for names in (_EXPECTED, _OBSERVED)
        )
        return cls(Estimates(tuple(params["experts"]), *expected), arrays["tokens"], *observed)


def rehearse(
    unfitted: Estimator,
    fitted: Estimator,
    features: FeatureBatch,
    table: OutcomeTable,
    rng: np.random.Generator,
) -> Rehearsal | None:
    """What an estimator expects of rows that it has not seen.

    One that has left out rows in its own fit is asked for what it expected of them; any other is
    fitted once more to four fifths of the groups.

    Args:
        unfitted: As it was before it was fitted.
        fitted: `unfitted`, just fitted to `table`.
        features: One row per row of `table`.
        table: The outcomes.
        rng: The only source of chance.

    Returns:
        None where nothing can be left out.
    """
    if isinstance(fitted, RehearsedEstimator):
        return Rehearsal.of(fitted.out_of_fold(table), features, table, rng)
    folds = group_folds(table.groups, _FOLDS, rng)
    if not folds:
        return None
    known = others(folds[0], len(table))
    try:
        trial = unfitted.fit(features.take(known), table.take(known), rng)
    except TableError:
        return None
    unseen, held_out = features.take(folds[0]), table.take(folds[0])
    return Rehearsal.of(trial.predict(unseen), unseen, held_out, rng)


def _short(values_NA: Floats) -> Floats:
    """With the digits that are kept on disk, so that a router decides the same before and after."""
    return values_NA.astype(np.float32).astype(np.float64)
