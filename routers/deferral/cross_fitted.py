"""Scorers of answers that serve as they were when thresholds were fitted to them.

A threshold is fitted to scores of answers that the scorer had not seen: each fold by a fit on the
others. Were another fit, on all rows, then to serve, its scores would be spread a little
differently, and where many of them lie close together, a budget or a risk is missed by far more
than chance explains. So the fits of the folds themselves serve: each request is judged by one of
them, which one its text decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self
from zlib import crc32

import numpy as np

from routers.deferral.scorer import AnswerScorer, Drafts
from routers.errors import TableError
from routers.estimators.folds import group_folds, others
from routers.records import Floats, State
from routers.storage.states import join_states, part_state

_FOLDS = 5


@dataclass(frozen=True, slots=True)
class CrossFittedScorer:
    """One scorer per fold, of which one judges a request.

    Attributes:
        scorers: At least one.
    """

    scorers: tuple[AnswerScorer, ...]

    @classmethod
    def fit(
        cls,
        drafts: Drafts,
        score_N: Floats,
        groups: Sequence[str],
        rng: np.random.Generator,
        *,
        encoder: str = "tfidf",
    ) -> tuple[Self, Floats]:
        """Learn from graded answers.

        Args:
            drafts: The answers.
            score_N: Their grades in [0, 1], all known.
            groups: Rows of one group are near-identical.
            rng: The only source of chance.
            encoder: See `AnswerScorer.fit`.

        Returns:
            The scorer; and its scores of each answer by the fit that saw none of its group, shape
            (N,), to which thresholds are to be fitted.

        Raises:
            TableError: There are fewer than two groups, so nothing can be held out.
        """
        folds = group_folds(groups, _FOLDS, rng)
        if not folds:
            raise TableError("answers of fewer than two requests are known: none can be held out")
        unseen_N = np.empty(len(drafts))
        scorers = []
        for held in folds:
            kept = others(held, len(drafts))
            scorer = AnswerScorer.fit(
                drafts.take(kept.tolist()), score_N[kept], rng, encoder=encoder
            )
            unseen_N[held] = scorer.scores(drafts.take(held.tolist()))
            scorers.append(scorer)
        return cls(tuple(scorers)), unseen_N

    def scores(self, drafts: Drafts) -> Floats:
        """How right each answer looks, in (0, 1), shape (N,)."""
        judge_N = np.array([self._judge_of(prompt) for prompt in drafts.prompts], dtype=np.intp)
        found_N = np.empty(len(drafts))
        for place, scorer in enumerate(self.scorers):
            rows = np.flatnonzero(judge_N == place)
            if len(rows):
                found_N[rows] = scorer.scores(drafts.take(rows.tolist()))
        return found_N

    def score(self, prompt: str, answer: str, expert: str) -> float:
        """The same of one answer."""
        return self.scorers[self._judge_of(prompt)].score(prompt, answer, expert)

    def _judge_of(self, prompt: str) -> int:
        return crc32(prompt.encode("utf-8", "surrogatepass")) % len(self.scorers)

    def state(self) -> State:
        parts = {f"fold{place}": scorer.state() for place, scorer in enumerate(self.scorers)}
        return join_states(({"folds": len(self.scorers)}, {}), parts)

    @classmethod
    def from_state(cls, state: State) -> Self:
        folds = range(int(state[0]["folds"]))
        return cls(
            tuple(AnswerScorer.from_state(part_state(state, f"fold{place}")) for place in folds)
        )
