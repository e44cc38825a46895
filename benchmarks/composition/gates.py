"""Part a: does what goes by agreement match a strong model at less than its cost?

Two ways: a cascade by the agreement of a weak model's samples, see `consistency`, and a vote of
three that stops as soon as the strong model and the weak one agree, see `stopping`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product

import numpy as np

from benchmarks.composition.consistency import Prompted, consistent
from benchmarks.composition.data import Named, Recorded, recorded
from benchmarks.composition.stopping import Samples, Stopped, stopped_vote
from eval.metrics.intervals import ClusterBootstrap, Spread, with_interval
from routers.estimators.folds import Rows, group_folds, others
from routers.records import Floats

_STRONG = {
    "best of all, 3 samples": ("gpt-4[cot1]", "gpt-4[cot2]", "gpt-4[pot1]", "gpt-4[pot2]"),
    "chain of thought, 3 samples": ("gpt-4[cot1]", "gpt-4[cot2]"),
    "one greedy call": ("gpt-4[greedy_cot1]", "gpt-4[greedy_cot2]", "gpt-4[greedy_pot1]",
                        "gpt-4[greedy_pot2]"),
}  # fmt: skip
_STYLES = ("cot1", "cot2", "pot1", "pot2")
_SHARE = 0.6
_WEAK = ("gpt-3.5-turbo", "llama-2-13b")
_LAST = tuple(f"gpt-4[{style}]" for style in (*_STYLES, *(f"greedy_{s}" for s in _STYLES)))
_MOST_EACH = 5
"""Samples of each prompt: twenty in all, as in the paper."""
_ALL = (*(f"{model}[{style}]" for model in _WEAK for style in _STYLES), *_LAST)


@dataclass(frozen=True, slots=True)
class Gated:
    """One comparison, differences with 95 % intervals over groups of questions.

    Attributes:
        way: Cascade or vote.
        against: Which strong model; the cascade ends with it, too.
        bill: What samples of one question cost.
        rows: Judged by which.
        count: How many.
        strong: Accuracy of the strong model.
        composed: Accuracy of what stands against it; where it is known within bounds, the least.
        most: The most.
        difference: Least accuracy − the strong model's.
        share: Cost, the most, over the strong model's.
        chosen: What was chosen, for the last of the splits.
    """

    way: str
    against: str
    bill: str
    rows: str
    count: int
    strong: float
    composed: float
    most: float
    difference: Spread
    share: Spread
    chosen: str


def gated(seed: int = 0) -> list[Gated]:
    """DATE, for every kind of strong model, under both bills.

    Judged by `dev`, by all rows and by `train` crossed, and by the rows that it was chosen on,
    which is no evidence but shows how much luck is in the choice.
    """
    found = []
    named = Named("mot_cascade", _ALL, ("date",))
    apart = recorded(named)
    for once in (False, True):
        data = recorded(named, prompt_once=True) if once else apart
        rows = np.array(sorted({*data.train, *data.dev}))
        groups = [data.table.groups[row] for row in rows]
        dev = np.flatnonzero(np.isin(rows, data.dev))
        train = np.flatnonzero(np.isin(rows, data.train))
        everything = np.arange(len(rows))
        judged = {
            "dev": [(train, dev)],
            "all, 8 folds": _folds(everything, groups, seed),
            "train, 8 folds": _folds(train, groups, seed),
            "all, in hindsight": [(everything, everything)],
        }
        bill = "one prompt for all samples" if once else "a call for each sample"
        date = _Date(data, apart, rows)
        for name, strong in _STRONG.items():
            for what, splits in judged.items():
                for way, ways in (("cascade", date.cascades), ("vote", date.votes)):
                    values_5N, chosen = _judged(date, splits, strong, ways)
                    held = np.concatenate([test for _, test in splits])
                    found.append(
                        _compared(
                            (way, name, bill, what), values_5N[:, held],
                            [groups[row] for row in held], chosen, seed,
                        )
                    )  # fmt: skip
    return found


def _folds(rows: Rows, groups: Sequence[str], seed: int) -> list[tuple[Rows, Rows]]:
    """Eight splits of some rows, no group on both sides."""
    folds = group_folds([groups[row] for row in rows], 8, np.random.default_rng(seed))
    return [(rows[others(held, len(rows))], rows[held]) for held in folds]


class _Date:
    """A weak model under four prompts, two chains of thought and two programs, and GPT-4."""

    def __init__(self, data: Recorded, apart: Recorded, rows: Rows) -> None:
        """`apart` has the costs of samples that are calls of their own."""
        columns = [data.table.experts.index(expert) for expert in _ALL]
        calls_NA = apart.table.cost_usd_NA / apart.drafts.samples_NA
        self.call_usd_NA = calls_NA[rows][:, columns]
        self.score_NA = data.table.score_NA[rows][:, columns]
        self.cost_NA = data.table.cost_usd_NA[rows][:, columns]
        self.samples_NA = data.drafts.samples_NA[rows][:, columns]
        self.agreement_NA = data.drafts.agreement_NA[rows][:, columns]
        self.sample_mean_NA = data.drafts.sample_mean_NA[rows][:, columns]
        self.cascades = cache(self._cascades)

    def sample(self, expert: str) -> Samples:
        """One answer of a prompt."""
        column = _ALL.index(expert)
        return Samples(self.sample_mean_NA[:, column], self.call_usd_NA[:, column])

    def majority(self, expert: str) -> Samples:
        """What most of a prompt's samples say, all of them paid for."""
        column = _ALL.index(expert)
        return Samples(self.score_NA[:, column], self.cost_NA[:, column])

    def prompted(self, expert: str) -> Prompted:
        """All samples of a prompt of a weak model."""
        column = _ALL.index(expert)
        samples_N = self.samples_NA[:, column]
        right_N = np.rint(self.sample_mean_NA[:, column] * samples_N).astype(np.intp)
        top_N = np.rint(self.agreement_NA[:, column] * samples_N).astype(np.intp)
        wrong_N = samples_N.astype(np.intp) - right_N
        return Prompted(right_N, wrong_N, top_N, self.call_usd_NA[:, column])

    def _cascades(self, strong: int) -> dict[str, Stopped]:
        """The strong model where too few of a weak one's samples under all prompts agree."""
        found, last = {}, self.majority(_ALL[strong])
        for model in _WEAK:
            prompts = [self.prompted(f"{model}[{style}]") for style in _STYLES]
            for each in range(1, _MOST_EACH + 1):
                total = each * len(prompts)
                for need in range(total // 2 + 1, total + 1):
                    name = f"{need} of {total} of {model} agree, else {_ALL[strong]}"
                    found[name] = consistent(prompts, last, each, need)
        return found

    def votes(self, strong: int) -> dict[str, Stopped]:
        """A chain of thought and a program of GPT-4, and a weak model's answer between them.

        They are the same whichever form of GPT-4 they stand against.
        """
        return self._votes

    @cached_property
    def _votes(self) -> dict[str, Stopped]:
        found = {}
        for chain, program in product(_STYLES[:2], _STYLES[2:]):
            for one, other in ((chain, program), (program, chain)):
                first, third = (self.sample(f"gpt-4[{style}]") for style in (one, other))
                for model, style in product(_WEAK, _STYLES):
                    weak = f"{model}[{style}]"
                    for kind, second in (("one", self.sample(weak)), ("all", self.majority(weak))):
                        name = f"vote(gpt-4[{one}], {kind} of {weak}, gpt-4[{other}])"
                        found[name] = stopped_vote(first, second, third)
        return found


_Ways = Callable[[int], Mapping[str, Stopped]]


def _best(
    date: _Date, ways: Mapping[str, Stopped], train: Rows, test: Rows, strong: int
) -> tuple[Stopped, str]:
    """Of those within 60 % of the strong model's cost on the training rows, the best at least.

    Without any the strong model is left as it is.
    """
    most_usd = _SHARE * float(date.cost_NA[train, strong].mean())
    able = {
        name: (float(each.least_N[train].mean()), -float(each.usd_N[train].mean()))
        for name, each in ways.items()
        if each.usd_N[train].mean() <= most_usd
    }
    if not able:
        score_N = date.score_NA[test, strong]
        return Stopped(score_N, score_N, date.cost_NA[test, strong]), "none"
    best = max(able, key=lambda name: able[name])
    way = ways[best]
    return Stopped(way.least_N[test], way.most_N[test], way.usd_N[test]), best


def _judged(
    date: _Date, splits: Sequence[tuple[Rows, Rows]], strong: tuple[str, ...], ways: _Ways
) -> tuple[Floats, str]:
    """Least and most P(right) and cost of what is chosen; P(right) and cost of the strong model."""
    values_5N, chosen = np.zeros((5, len(date.score_NA))), ""
    columns = [_ALL.index(expert) for expert in strong]
    for train, test in splits:
        best = columns[int(date.score_NA[train][:, columns].mean(axis=0).argmax())]
        found, chosen = _best(date, ways(best), train, test, best)
        values_5N[:3, test] = found.least_N, found.most_N, found.usd_N
        values_5N[3:, test] = date.score_NA[test, best], date.cost_NA[test, best]
    return values_5N, chosen


def _compared(
    names: tuple[str, str, str, str],
    values_5N: Floats,
    groups: Sequence[str],
    chosen: str,
    seed: int,
) -> Gated:
    least, most, usd, strong, strong_usd = values_5N.mean(axis=1).tolist()
    drawn_B5 = ClusterBootstrap(groups, seed=seed).means(values_5N, np.ones(values_5N.shape))
    return Gated(
        *names,
        len(groups),
        strong,
        least,
        most,
        with_interval(least - strong, drawn_B5[:, 0] - drawn_B5[:, 3]),
        with_interval(usd / strong_usd, drawn_B5[:, 2] / drawn_B5[:, 4]),
        chosen,
    )
