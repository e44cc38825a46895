"""Everybody who decides on the stream, but for the loop: what it is measured against."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.loop.world import (
    COST_A,
    EXPERTS,
    PRICES,
    WORTH,
    Indices,
    Stream,
)
from eval.ope.asked import LoggedWishes
from eval.ope.candidate import targets, weighed
from eval.ope.logged import Logged
from eval.simulate import World, play
from routers.base import OnlineEstimator, Policy
from routers.explore import draw
from routers.fitting.fit import encode_table, fit_router
from routers.policies.bounds import OptimisticPolicy
from routers.policies.thompson import ThompsonPolicy
from routers.records import Floats, Preference
from routers.registry import make_estimator
from routers.router import Router

# What a router is told to weigh is the utility that it is judged by.
PREFERENCE = Preference(cost_weight=WORTH * float(COST_A.max() / COST_A.mean()))
RECIPE = "logistic+tfidf"
_BUCKETS = 7
_TOGETHER = 20
_FADING = 0.9995


def chances(router: Router, stream: Stream, rows: Indices) -> tuple[Floats, Floats]:
    """P(expert | request) and expected quality through the code that serves, both (N, A)."""
    logged = Logged.of(stream.table(rows))
    asked = LoggedWishes([PREFERENCE] * len(rows))
    queries = weighed(router, logged, PRICES, asked)
    chance_NA = targets(router, logged, queries, asked, PRICES)
    return chance_NA, np.array([query.quality_A for query in queries])


def drawn(chance_NA: Floats, draw_N: Floats) -> Indices:
    """The expert that each request's number picks."""
    pairs = zip(chance_NA, draw_N.tolist(), strict=True)
    return np.array([draw(chance_A, number) for chance_A, number in pairs], dtype=np.intp)


def decided(router: Router, stream: Stream, rows: Indices) -> Indices:
    """Whom a router that never changes would ask."""
    return drawn(chances(router, stream, rows)[0], stream.draw_N[rows])


def informed(stream: Stream, rows: int, seed: int = 0) -> Router:
    """Fitted on the scores of everybody on the first requests of a stream; it explores nothing."""
    return fit_router("full", RECIPE, stream.table(np.arange(rows)), seed=seed)


@dataclass(frozen=True, slots=True)
class Online:
    """An estimator that learns on after every few answers."""

    estimator: str
    policy: Policy | None = None
    epsilon: float = 0.0
    keep: float | None = None

    def run(self, stream: Stream, collected: Stream, seed: int) -> Indices:
        """Whom it asks, request by request, having learned from what was collected."""
        first = collected.table(np.arange(len(collected)))
        encoded = encode_table("tfidf", first, seed)
        settings = {} if self.keep is None else {"keep": self.keep}
        fitted = make_estimator(self.estimator, **settings).fit(
            encoded.features, first, np.random.default_rng(seed)
        )
        if not isinstance(fitted, OnlineEstimator):
            raise TypeError(f"{self.estimator} does not learn on")
        features = encoded.featurizer.transform(stream.prompts)
        table = stream.table(np.arange(len(stream)))
        return play(
            fitted,
            World(features, table, stream.truth_NA),
            seed=seed,
            policy=self.policy,
            preference=PREFERENCE,
            epsilon=self.epsilon,
            batch=_TOGETHER,
        ).chosen_N


ONLINE = {
    "online heads, ε = 0.05": Online("online", epsilon=0.05),
    "LinUCB, optimistic": Online("linucb", OptimisticPolicy(), keep=_FADING),
    "Thompson, contextual": Online("thompson", ThompsonPolicy(), keep=_FADING),
}


def buckets(stream: Stream, collected: Stream, seed: int) -> Indices:
    """A Beta posterior for each of seven kinds of request and each expert; the best draw answers.

    It is told the kind of each request without error, ten kinds in seven buckets. Nothing is ever
    forgotten, what was collected counts, and it weighs cost as everybody here does.
    """
    rng = np.random.default_rng(seed)
    wins_BA, losses_BA = np.ones((2, _BUCKETS, len(EXPERTS)))
    np.add.at(wins_BA, collected.kind_N % _BUCKETS, collected.score_NA)
    np.add.at(losses_BA, collected.kind_N % _BUCKETS, 1 - collected.score_NA)
    chosen_N = np.zeros(len(stream), dtype=np.intp)
    for row, bucket in enumerate((stream.kind_N % _BUCKETS).tolist()):
        hoped_A = rng.beta(wins_BA[bucket], losses_BA[bucket]) - WORTH * COST_A / COST_A.mean()
        expert = chosen_N[row] = int(hoped_A.argmax())
        score = stream.score_NA[row, expert]
        wins_BA[bucket, expert] += score
        losses_BA[bucket, expert] += 1 - score
    return chosen_N
