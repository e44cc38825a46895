"""What is expected of every expert once some of them have answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from routers.deferral.logistic import LogisticRegression, logit
from routers.records import Floats, State

Mask = npt.NDArray[np.bool_]

_STATES_TRIED = 8
_PENALTY = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What may be known of N requests; of an answer that was not given nothing is looked at.

    Attributes:
        ante_NA: Quality expected of each expert before anyone answered, in [0, 1].
        signal_NA: How right each expert's answer looks by itself, in [0, 1].
        same_NAA: Whether two experts' answers say the same, shape (N, A, A); None unknown.
    """

    ante_NA: Floats
    signal_NA: Floats
    same_NAA: Floats | None = None

    def __len__(self) -> int:
        return len(self.ante_NA)

    def take(self, rows: npt.NDArray[np.intp]) -> Seen:
        same_NAA = None if self.same_NAA is None else self.same_NAA[rows]
        return Seen(self.ante_NA[rows], self.signal_NA[rows], same_NAA)


class Posterior(Protocol):
    """Re-estimates after answers. With nobody asked it says what was expected before."""

    def quality(self, ran_A: Mask, seen: Seen) -> Floats:
        """Expected score of every expert, in [0, 1], shape (N, A).

        Args:
            ran_A: Who has answered, shape (A,).
            seen: Of the requests.
        """
        ...

    def state(self) -> State: ...


@dataclass(frozen=True, slots=True)
class OwnSignal:
    """An expert that answered is worth its own signal; the others what they were worth before."""

    def quality(self, ran_A: Mask, seen: Seen) -> Floats:
        return np.where(ran_A, seen.signal_NA, seen.ante_NA)

    def state(self) -> State:
        return {"kind": "own"}, {}


@dataclass(frozen=True, slots=True, eq=False)
class LearnedPosterior:
    """Logistic regressions on all answers so far: their signals, and who agrees with whom.

    Attributes:
        answered: For each expert the regression once it has answered itself.
        others: For each expert the regression once others have.
    """

    answered: tuple[LogisticRegression, ...]
    others: tuple[LogisticRegression, ...]

    @classmethod
    def fit(cls, seen: Seen, score_NA: Floats, depth: int, rng: np.random.Generator) -> Self:
        """Learn from random sets of up to `depth` answers.

        Args:
            seen: Of N requests, by fits that had not seen them.
            score_NA: Scores in [0, 1], all known.
            depth: Most answers that there will be, >= 1.
            rng: Decides the sets.
        """
        count = score_NA.shape[1]
        answered, others = [], []
        for expert in range(count):
            with_it = _some_sets(expert, count, depth, rng, inside=True)
            answered.append(_fit(seen, score_NA, expert, with_it, _of_answered))
            without = _some_sets(expert, count, max(depth - 1, 1), rng, inside=False)
            others.append(_fit(seen, score_NA, expert, without, _of_other))
        return cls(tuple(answered), tuple(others))

    def quality(self, ran_A: Mask, seen: Seen) -> Floats:
        if not ran_A.any():
            return seen.ante_NA.copy()
        columns = [
            self.answered[expert].predict(_of_answered(expert, ran_A, seen))
            if ran
            else self.others[expert].predict(_of_other(expert, ran_A, seen))
            for expert, ran in enumerate(ran_A)
        ]
        return np.stack(columns, axis=1)

    def state(self) -> State:
        arrays: dict[str, npt.NDArray[np.generic]] = {}
        for kind, lines in (("answered", self.answered), ("others", self.others)):
            for name in ("centre_F", "spread_F", "slope_F"):
                arrays[f"{kind}/{name}"] = np.stack([getattr(line, name) for line in lines])
            arrays[f"{kind}/offset"] = np.array([line.offset for line in lines])
        return {"kind": "learned"}, arrays

    @classmethod
    def from_state(cls, state: State) -> Self:
        arrays = state[1]

        def lines(kind: str) -> tuple[LogisticRegression, ...]:
            parts = [arrays[f"{kind}/{name}"] for name in ("centre_F", "spread_F", "slope_F")]
            offsets = arrays[f"{kind}/offset"].tolist()
            rows = zip(*parts, offsets, strict=True)
            return tuple(
                LogisticRegression(centre, spread, offset, slope)
                for centre, spread, slope, offset in rows
            )

        return cls(lines("answered"), lines("others"))


def posterior_from_state(state: State) -> Posterior:
    """The posterior that `state()` was asked of."""
    return OwnSignal() if state[0]["kind"] == "own" else LearnedPosterior.from_state(state)


def _some_sets(
    expert: int, count: int, depth: int, rng: np.random.Generator, *, inside: bool
) -> list[Mask]:
    others = [other for other in range(count) if other != expert]
    sets = []
    for turn in range(_STATES_TRIED):
        size = min(turn % depth + (0 if inside else 1), len(others))
        ran_A = np.zeros(count, dtype=bool)
        ran_A[rng.choice(others, size=size, replace=False)] = True
        ran_A[expert] = inside
        sets.append(ran_A)
    return sets


def _fit(
    seen: Seen,
    score_NA: Floats,
    expert: int,
    sets: list[Mask],
    features: Callable[[int, Mask, Seen], Floats],
) -> LogisticRegression:
    rows = np.concatenate([features(expert, ran_A, seen) for ran_A in sets])
    return LogisticRegression.fit(
        rows, np.tile(score_NA[:, expert], len(sets)), _PENALTY * len(sets)
    )


def _of_answered(expert: int, ran_A: Mask, seen: Seen) -> Floats:
    """Its own prospects and signal; who agrees with it, who does not, and how good these are."""
    ante_NA, signal_NA = logit(seen.ante_NA), logit(seen.signal_NA)
    ran_NA = np.broadcast_to(ran_A, ante_NA.shape).astype(np.float64).copy()
    ran_NA[:, expert] = 0.0
    own = [ante_NA[:, expert], signal_NA[:, expert], (ran_NA * signal_NA).sum(axis=1)]
    if seen.same_NAA is None:
        return np.column_stack([*own, ran_NA, ran_NA * signal_NA])
    same_NA = seen.same_NAA[:, expert] * ran_NA
    apart_NA = ran_NA - same_NA
    own += [same_NA.sum(axis=1), (same_NA * ante_NA).sum(axis=1)]
    own += [apart_NA.sum(axis=1), (apart_NA * ante_NA).sum(axis=1)]
    return np.column_stack([*own, same_NA, apart_NA])


def _of_other(expert: int, ran_A: Mask, seen: Seen) -> Floats:
    """Its own prospects; how right the answers so far look, and whether they say the same."""
    ante_NA, signal_NA = logit(seen.ante_NA), logit(seen.signal_NA)
    ran_NA = np.broadcast_to(ran_A, ante_NA.shape).astype(np.float64)
    count = max(int(ran_A.sum()), 1)
    best_N = np.where(ran_NA > 0, signal_NA, -np.inf).max(axis=1)
    rows = [ante_NA[:, expert], (ran_NA * ante_NA).sum(axis=1) / count, best_N]
    if seen.same_NAA is not None:
        among_NA = (seen.same_NAA * ran_NA[:, None, :]).sum(axis=2) * ran_NA
        rows += [among_NA.max(axis=1) / count]
    return np.column_stack([*rows, ran_NA, ran_NA * signal_NA])
