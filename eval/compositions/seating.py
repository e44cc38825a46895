"""From outcomes of teams to seats in a mixture: margin and mass of `routers.allocation.seats`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product, starmap

import numpy as np

from eval.compositions.planned import Way
from eval.compositions.world import answered_by_all, rehearsed
from eval.errors import ComparisonError
from eval.tables.pool import with_experts
from routers.allocation.seats import SeatRules, seated
from routers.estimators.folds import Rows, group_folds, others
from routers.fitting.fit import encode_table, fit_router
from routers.fitting.recipe import DEFAULT, Recipe
from routers.policies.cautious import chance_of
from routers.records import Floats, OutcomeTable

_USUAL = SeatRules()
_MARGINS = (0.0, 0.01, _USUAL.margin, 0.06, 0.12, 0.2, 0.3)
_MASSES = (0.5, 0.7, _USUAL.mass, 1.0)
_FOLDS = 5
_FEWEST = 40
_BEYOND_CHANCE = 1.64


@dataclass(frozen=True, slots=True)
class FittedSeats:
    """Rules for who takes part, and what to expect of them on other requests.

    Attributes:
        rules: Fitted on all rows; the usual ones where no others gain more than chance does.
        queries: How many there were.
        fitted: What rules fitted in this way came to on held-out folds.
        default: What the usual ones came to.
    """

    rules: SeatRules
    queries: int
    fitted: Way
    default: Way


def fit_seats(
    table: OutcomeTable,
    experts: Sequence[str],
    teams: Mapping[str, Sequence[str]],
    *,
    seats: int | None = None,
    worth_usd: float | None = None,
    estimator: str = DEFAULT,
    seed: int = 0,
) -> FittedSeats:
    """The margin and the mass whose teams would have answered best, by outcomes of those teams.

    For each query it is known who would have been seated, by a router that had not seen it, and
    what that team came to. Rules that would seat a team of unknown outcome are not tried.

    Args:
        table: Graded answers of experts and of mixtures, each in a column, with their costs.
        experts: Whom there is to choose from.
        teams: Columns of mixtures with their members. One who sits alone is asked alone, unless a
            team of one (Self-MoA) has a column.
        seats: Drafts of a mixture; None: as many as experts.
        worth_usd: Dollars that a right answer is worth; None: costs don't count.
        estimator: Of the router that will say what to expect of each.
        seed: Source of all randomness.

    Raises:
        ComparisonError: Members are not among `experts`, too few queries are complete, or what the
            usual rules seat has no column.
    """
    columns = {frozenset([expert]): expert for expert in experts}
    columns |= {_members(name, told, experts): name for name, told in teams.items()}
    names = sorted({*experts, *columns.values()})
    known, _ = answered_by_all(table, names)
    if len(known) < _FEWEST:
        raise ComparisonError(
            f"{len(known)} queries were answered by all of {', '.join(names)} at a known cost, "
            f"{_FEWEST} are needed"
        )
    singles = with_experts(known, experts)
    encoded = encode_table(Recipe.read(estimator).encoder, singles, seed)
    router = fit_router("before", estimator, singles, seed=seed, encoded=encoded)
    expected = rehearsed(router, encoded, singles, estimator, seed)
    places = {members: known.experts.index(name) for members, name in columns.items()}
    seating = _Seating(known, singles.experts, expected, places, seats or len(experts))
    trials = {
        rules: columns_N
        for rules in starmap(SeatRules, product(_MARGINS, _MASSES))
        if (columns_N := seating.columns(rules)) is not None
    }
    return _fitted(known, trials, worth_usd, np.random.default_rng(seed))


def _members(name: str, told: Iterable[str], experts: Sequence[str]) -> frozenset[str]:
    members = frozenset(told)
    if unknown := sorted(members.difference(experts)):
        raise ComparisonError(f"team {name!r} has {', '.join(unknown)}, who is none of the experts")
    return members


@dataclass(frozen=True, slots=True, eq=False)
class _Seating:
    """Who would have been seated, and in which column it stands what came of it."""

    known: OutcomeTable
    experts: tuple[str, ...]
    expected: tuple[Floats, Floats]
    places: Mapping[frozenset[str], int]
    seats: int

    def columns(self, rules: SeatRules) -> Rows | None:
        """The column of each query's team; None if a team has none, an error of the usual rules."""
        teams = [
            frozenset(self.experts[seat] for seat in seated(quality_A, stderr_A, self.seats, rules))
            for quality_A, stderr_A in zip(*self.expected, strict=True)
        ]
        missing = next((team for team in teams if team not in self.places), None)
        if missing is None:
            return np.array([self.places[team] for team in teams])
        if rules == _USUAL:
            told = sorted(missing)
            raise ComparisonError(
                f"the usual rules seat {' and '.join(told)} together; say which column has what "
                f"came of it (--team NAME={','.join(told)})"
            )
        return None


def _fitted(
    known: OutcomeTable,
    trials: Mapping[SeatRules, Rows],
    worth_usd: float | None,
    rng: np.random.Generator,
) -> FittedSeats:
    """The best of the rules, and what choosing it comes to on folds that it was not chosen on."""
    rows, rules = np.arange(len(known)), list(trials)
    score_RN = np.array([known.score_NA[rows, columns_N] for columns_N in trials.values()])
    usd_RN = np.array([known.cost_usd_NA[rows, columns_N] for columns_N in trials.values()])
    utility_RN = score_RN if worth_usd is None else worth_usd * score_RN - usd_RN
    usual = rules.index(_USUAL)
    gain_RN = utility_RN - utility_RN[usual]
    group_N = np.unique(known.groups, return_inverse=True)[1]
    held_out = np.empty(len(rows), dtype=np.intp)
    for held in group_folds(known.groups, _FOLDS, rng):
        kept = others(held, len(rows))
        held_out[held] = _best(gain_RN[:, kept], group_N[kept], usual)
    return FittedSeats(
        rules[_best(gain_RN, group_N, usual)],
        len(rows),
        (float(score_RN[held_out, rows].mean()), float(usd_RN[held_out, rows].mean())),
        (float(score_RN[usual].mean()), float(usd_RN[usual].mean())),
    )


def _best(gain_RN: Floats, group_N: Rows, usual: int) -> int:
    """The rules of the highest mean gain; the usual ones where that is not beyond chance."""
    best = int(gain_RN.mean(axis=1).argmax())
    chance = chance_of(gain_RN[best], group_N)
    return best if gain_RN[best].mean() > _BEYOND_CHANCE * chance else usual
