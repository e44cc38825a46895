"""FrugalGPT's scorer: how right an answer looks, from the request, the answer and who gave it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from routers.base import Encoder
from routers.deferral.facts import facts
from routers.deferral.logistic import LogisticRegression
from routers.errors import TableError
from routers.estimators.folds import group_folds, others
from routers.records import Floats, State
from routers.registry import encoder_class, make_encoder
from routers.storage.states import join_states, part_state

_PENALTIES = (5.0, 20.0, 80.0, 320.0, 1280.0)
_MOST_TRIED = 4000


@dataclass(frozen=True, slots=True, eq=False)
class Drafts:
    """Answers as they came, one row each; several rows may answer one request.

    Attributes:
        prompts: The requests.
        answers: What was answered.
        experts: Who answered.
    """

    prompts: tuple[str, ...]
    answers: tuple[str, ...]
    experts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.answers)

    def take(self, rows: Sequence[int]) -> Drafts:
        return Drafts(
            tuple(self.prompts[row] for row in rows),
            tuple(self.answers[row] for row in rows),
            tuple(self.experts[row] for row in rows),
        )


@dataclass(frozen=True, slots=True, eq=False)
class AnswerScorer:
    """P(an answer is right), by a logistic regression on both texts, plain facts, and the expert.

    The paper's is DistilBERT on "query answer"; this one is fitted in seconds on a CPU and takes
    about a millisecond to judge a draft.

    Attributes:
        encoder: Fitted.
        experts: Ids that it knows; another one is judged as their average.
        line: The regression.

    Source: Chen, Zaharia & Zou, "FrugalGPT", 2023.
    """

    encoder: Encoder
    experts: tuple[str, ...]
    line: LogisticRegression

    @classmethod
    def fit(
        cls,
        drafts: Drafts,
        score_N: Floats,
        rng: np.random.Generator,
        *,
        encoder: str = "tfidf",
    ) -> Self:
        """Learn from graded answers.

        Args:
            drafts: The answers.
            score_N: Their grades in [0, 1], all known.
            rng: The only source of chance.
            encoder: A name that `make_encoder` knows.

        Raises:
            TableError: No answer is graded.
        """
        if not len(drafts):
            raise TableError("no graded answer is known, so no scorer can be fitted")
        texts = [*dict.fromkeys(drafts.prompts), *dict.fromkeys(drafts.answers)]
        fitted = make_encoder(encoder).fit(texts, rng)
        experts = tuple(sorted(set(drafts.experts)))
        rows = _features(fitted, experts, drafts)
        penalty = _best_penalty(rows, score_N, drafts.prompts, rng)
        return cls(fitted, experts, LogisticRegression.fit(rows, score_N, penalty))

    def scores(self, drafts: Drafts) -> Floats:
        """How right each answer looks, in (0, 1), shape (N,)."""
        return self.line.predict(_features(self.encoder, self.experts, drafts))

    def score(self, prompt: str, answer: str, expert: str) -> float:
        """The same of one answer."""
        return float(self.scores(Drafts((prompt,), (answer,), (expert,)))[0])

    def state(self) -> State:
        own = {"encoder_kind": self.encoder.name, "experts": list(self.experts)}
        parts = {"encoder": self.encoder.state(), "line": self.line.state()}
        return join_states((own, {}), parts)

    @classmethod
    def from_state(cls, state: State) -> Self:
        encoder = encoder_class(state[0]["encoder_kind"]).from_state(part_state(state, "encoder"))
        line = LogisticRegression.from_state(part_state(state, "line"))
        return cls(encoder, tuple(state[0]["experts"]), line)


def _best_penalty(
    rows: Floats, score_N: Floats, prompts: Sequence[str], rng: np.random.Generator
) -> float:
    """What judges a quarter of the requests best, learned from the rest of up to 4,000 rows."""
    some = np.sort(rng.permutation(len(rows))[:_MOST_TRIED])
    folds = group_folds([prompts[row] for row in some], 4, rng)
    if not folds:
        return _PENALTIES[-1]
    held, kept = some[folds[0]], some[others(folds[0], len(some))]

    def loss(penalty: float) -> float:
        # In proportion to the rows, as the whole fit will have more of them.
        line = LogisticRegression.fit(rows[kept], score_N[kept], penalty * len(kept) / len(rows))
        found_N = np.clip(line.predict(rows[held]), 1e-6, 1 - 1e-6)
        right_N = score_N[held]
        return -float((right_N * np.log(found_N) + (1 - right_N) * np.log(1 - found_N)).mean())

    return min(_PENALTIES, key=loss)


def _features(encoder: Encoder, experts: tuple[str, ...], drafts: Drafts) -> Floats:
    asked = _encoded(encoder, drafts.prompts)
    answered = _encoded(encoder, drafts.answers)
    who = np.zeros((len(drafts), len(experts)))
    place = {expert: column for column, expert in enumerate(experts)}
    for row, expert in enumerate(drafts.experts):
        if expert in place:
            who[row, place[expert]] = 1.0
        else:
            who[row] = 1 / len(experts)
    return np.hstack([asked, answered, facts(drafts.prompts, drafts.answers), who])


def _encoded(encoder: Encoder, texts: Sequence[str]) -> Floats:
    """Vectors of texts, each different one encoded once."""
    place = {text: row for row, text in enumerate(dict.fromkeys(texts))}
    vectors = encoder.encode(list(place))
    return vectors[[place[text] for text in texts]].astype(np.float64)
