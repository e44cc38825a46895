"""Cascade routing: routing and cascades as one rule over sets of experts.

A set S of experts that contains those that have answered is worth E[max of their qualities], by
what would be known once all of them had answered; asking it costs what those still to ask cost.
The best set is found, its cheapest missing expert is asked, and all is estimated anew. When the
best set is who has answered, the best of these answers is given.

Source: Dekoninck, Baader & Vechev, "A Unified Approach to Routing and Cascading for LLMs", 2024.
Beyond it, the noise is scaled with √(q(1 − q)): little is left to learn of a sure one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Self

import numpy as np

from routers.cascading.gaussian import expected_max
from routers.cascading.posterior import (
    LearnedPosterior,
    Mask,
    OwnSignal,
    Posterior,
    Seen,
    posterior_from_state,
)
from routers.errors import TableError
from routers.estimators.folds import Rows, group_folds, others
from routers.records import Floats, State

Members = tuple[int, ...]
_FEWEST_ROWS = 20
_STEEPEST_SCALE = 0.02
_FOLDS = 3


@dataclass(frozen=True, slots=True, eq=False)
class CascadeRouting:
    """The rule, fitted.

    Attributes:
        experts: Ids, length A.
        depth: Most answers to a request, >= 1; 1 is plain routing.
        posterior: Re-estimates after answers.
        noise: For sets (R, S) with R ⊆ S, sorted columns: covariance of what the qualities of S
            change by, over √(q(1 − q)), between when R has answered and when S has.
        optimism_DD: What E[max] promises over what it keeps, by how many have answered and how
            many will have, shape (depth + 1, depth + 1).
    """

    experts: tuple[str, ...]
    depth: int
    posterior: Posterior
    noise: Mapping[tuple[Members, Members], Floats]
    optimism_DD: Floats

    @classmethod
    def fit(
        cls,
        experts: Sequence[str],
        seen: Seen,
        score_NA: Floats,
        groups: Sequence[str],
        rng: np.random.Generator,
        *,
        depth: int = 3,
        learn: bool = True,
    ) -> Self:
        """Learn what answers tell, and how much.

        The paper takes its estimators to be unbiased. Here, how much is learned from answers is
        measured on requests that the posterior has not seen, and what is promised is compared
        with the scores that came of it there.

        Args:
            experts: Ids, the columns of `seen`.
            seen: Of logged requests, by fits that had not seen them.
            score_NA: Their scores in [0, 1], all known.
            groups: Rows of one group are near-identical.
            rng: The only source of chance.
            depth: Most answers.
            learn: Whether answers change what is expected of others; else `OwnSignal`.

        Raises:
            TableError: Fewer than 20 requests.
        """
        if len(seen) < _FEWEST_ROWS:
            raise TableError(
                f"cascade routing needs {_FEWEST_ROWS} requests that all experts answered, found "
                f"{len(seen)}"
            )
        depth = min(depth, len(experts))

        def posterior(rows: Rows) -> Posterior:
            if not learn:
                return OwnSignal()
            return LearnedPosterior.fit(seen.take(rows), score_NA[rows], depth, rng)

        after = _after(posterior, seen, groups, depth, rng)
        noise = {
            (ran, members): _noise(after[ran], after[members], members)
            for members in after
            for ran in _subsets(members)
        }
        width = depth + 1
        plain = cls(tuple(experts), depth, OwnSignal(), noise, np.zeros((width, width)))
        optimism_DD = _optimism(plain, after, score_NA)
        whole = posterior(np.arange(len(seen)))
        return cls(tuple(experts), depth, whole, noise, optimism_DD)

    def worth(self, ran: Members, quality_NA: Floats, members: Members) -> Floats:
        """E[max] over `members` of what will be known once all of them have answered, shape (N,).

        Args:
            ran: Who has answered, sorted columns.
            quality_NA: What is expected now.
            members: Who will have, sorted columns; contains `ran`.
        """
        columns = list(members)
        now = quality_NA[:, columns]
        if members == ran:
            best_N: Floats = now.max(axis=1)
            return best_N
        best = expected_max(now, self.noise[ran, members], _scale(now))
        worth_N: Floats = best - self.optimism_DD[len(ran), len(members)]
        return worth_N

    def best_set(self, ran: Members, quality_A: Floats, usd_A: Floats, price: float) -> Members:
        """The set of highest worth − price · dollars, for one request.

        Grown one expert at a time; one whose marginal worth is below its price is dropped with all
        larger sets, since E[max] has diminishing returns.

        Args:
            ran: Who has answered, sorted columns.
            quality_A: What is expected now.
            usd_A: Expected dollars of each.
            price: Quality points per dollar, >= 0.
        """
        row = quality_A[None]
        worth = {ran: float(self.worth(ran, row, ran)[0]) if ran else -np.inf}
        values = {ran: worth[ran]}
        edge = [ran]
        while edge:
            grown = []
            for members in edge:
                for expert in range(len(self.experts)):
                    larger = tuple(sorted({*members, expert}))
                    if len(larger) == len(members) or len(larger) > self.depth or larger in worth:
                        continue
                    worth[larger] = float(self.worth(ran, row, larger)[0])
                    if members and worth[larger] - worth[members] < price * usd_A[expert]:
                        continue
                    spent = sum(float(usd_A[other]) for other in larger if other not in ran)
                    values[larger] = worth[larger] - price * spent
                    grown.append(larger)
            edge = grown
        return max(values, key=lambda each: (values[each], -len(each)))

    def next_expert(
        self, ran: Members, quality_A: Floats, usd_A: Floats, price: float
    ) -> int | None:
        """Who is asked next, by column; None when the best answer so far is to be given.

        The cheapest of `best_set`, which has the same arguments, that has not answered yet.
        """
        best = self.best_set(ran, quality_A, usd_A, price)
        missing = [expert for expert in best if expert not in ran]
        return min(missing, key=lambda each: (usd_A[each], each)) if missing else None

    def state(self) -> State:
        kind, arrays = self.posterior.state()
        pairs = list(self.noise)
        padded = np.zeros((len(pairs), self.depth, self.depth))
        for place, pair in enumerate(pairs):
            size = len(pair[1])
            padded[place, :size, :size] = self.noise[pair]
        params = {
            "experts": list(self.experts),
            "depth": self.depth,
            "posterior": kind,
            "sets": [[list(ran), list(members)] for ran, members in pairs],
        }
        return params, {**arrays, "noise": padded, "optimism": self.optimism_DD}

    @classmethod
    def from_state(cls, state: State) -> Self:
        params, arrays = state
        posterior = posterior_from_state((params["posterior"], arrays))
        noise = {}
        for (ran, members), padded in zip(params["sets"], arrays["noise"], strict=True):
            size = len(members)
            noise[tuple(ran), tuple(members)] = padded[:size, :size]
        experts, depth = tuple(params["experts"]), int(params["depth"])
        return cls(experts, depth, posterior, noise, arrays["optimism"])


def _after(
    posterior: Callable[[Rows], Posterior],
    seen: Seen,
    groups: Sequence[str],
    depth: int,
    rng: np.random.Generator,
) -> dict[Members, Floats]:
    """What is expected once each set has answered, by fits that left the request's group out."""
    shape = seen.ante_NA.shape
    found = {members: np.empty(shape) for members in _sets(range(shape[1]), depth)}
    for held in group_folds(groups, _FOLDS, rng) or [np.arange(shape[0])]:
        kept = others(held, shape[0])
        fitted = posterior(kept if len(kept) else held)
        held_out = seen.take(held)
        for members, quality_NA in found.items():
            quality_NA[held] = fitted.quality(_mask(members, shape[1]), held_out)
    return found


def _noise(before_NA: Floats, after_NA: Floats, members: Members) -> Floats:
    columns = list(members)
    now = before_NA[:, columns]
    change = (after_NA[:, columns] - now) / _scale(now)
    covariance: Floats = change.T @ change / len(change)
    return covariance


def _optimism(rule: CascadeRouting, after: Mapping[Members, Floats], score_NA: Floats) -> Floats:
    """How much more E[max] promises than the answer that is then chosen scores, on average."""
    total_DD, count_DD = np.zeros((2, rule.depth + 1, rule.depth + 1))
    everyone = np.arange(len(score_NA))
    for members, quality_NA in after.items():
        if not members:
            continue
        columns = list(members)
        chosen_N = np.array(columns)[quality_NA[:, columns].argmax(axis=1)]
        kept = float(score_NA[everyone, chosen_N].mean())
        for ran in _subsets(members):
            place = len(ran), len(members)
            total_DD[place] += float(rule.worth(ran, after[ran], members).mean()) - kept
            count_DD[place] += 1
    optimism_DD: Floats = total_DD / np.maximum(count_DD, 1)
    return optimism_DD


def _scale(quality_NK: Floats) -> Floats:
    return np.sqrt(np.maximum(quality_NK * (1 - quality_NK), _STEEPEST_SCALE))


def _mask(members: Members, count: int) -> Mask:
    ran_A = np.zeros(count, dtype=bool)
    ran_A[list(members)] = True
    return ran_A


def _sets(columns: Sequence[int], depth: int) -> Iterator[Members]:
    """Every set of up to `depth` columns, the empty one first."""
    for size in range(depth + 1):
        yield from combinations(columns, size)


def _subsets(members: Members) -> Iterator[Members]:
    return (subset for subset in _sets(members, len(members)) if subset != members)
