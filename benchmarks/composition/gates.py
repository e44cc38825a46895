"""Part a: do cascades that go by the agreement of a weak model's samples match a strong one?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.composition.data import Named, Recorded, Spread, recorded, with_interval
from eval.compositions.virtual import Cascaded
from eval.intervals import ClusterBootstrap
from routers.deferral.chain import Logged, as_good_as, search
from routers.estimators.folds import Rows, group_folds, others

_STRONG = {
    "best of all, 3 samples": ("gpt-4[cot1]", "gpt-4[cot2]", "gpt-4[pot1]", "gpt-4[pot2]"),
    "chain of thought, 3 samples": ("gpt-4[cot1]", "gpt-4[cot2]"),
    "one greedy call": ("gpt-4[greedy_cot1]", "gpt-4[greedy_cot2]", "gpt-4[greedy_pot1]",
                        "gpt-4[greedy_pot2]"),
}  # fmt: skip
_STYLES = ("cot1", "cot2", "pot1", "pot2")
_WEAK = ("gpt-3.5-turbo", "llama-2-13b")
_LAST = tuple(f"gpt-4[{style}]" for style in (*_STYLES, *(f"greedy_{s}" for s in _STYLES)))
_ALL = (*(f"{model}[{style}]" for model in _WEAK for style in _STYLES), *_LAST)


@dataclass(frozen=True, slots=True)
class Gated:
    """One comparison, differences with 95 % intervals over groups of questions."""

    against: str
    bill: str
    rows: str
    count: int
    strong: float
    cascade: float
    difference: Spread
    share: Spread
    chain: str


def gated(seed: int = 0) -> list[Gated]:
    """DATE, for every kind of strong model, under both bills.

    Judged by `dev`, by all rows crossed, and by the rows that it was chosen on, which is no
    evidence but shows how much luck is in the choice.
    """
    found = []
    for once in (False, True):
        data = recorded(Named("mot_cascade", _ALL, ("date",)), prompt_once=once)
        rows = np.array(sorted({*data.train, *data.dev}))
        groups = [data.table.groups[row] for row in rows]
        dev = np.flatnonzero(np.isin(rows, data.dev))
        train = np.flatnonzero(np.isin(rows, data.train))
        everything = np.arange(len(rows))
        folds = group_folds(groups, 8, np.random.default_rng(seed))
        judged = {
            "dev": [(train, dev)],
            "all, 8 folds": [(others(held, len(rows)), held) for held in folds],
            "all, in hindsight": [(everything, everything)],
        }
        bill = "one prompt for all samples" if once else "a call for each sample"
        for name, strong in _STRONG.items():
            for what, splits in judged.items():
                names = name, bill, what
                found.append(_one(_Date(data, rows), groups, splits, strong, names, seed))
    return found


class _Date:
    """The experts of a cascade: a weak model under four prompts at once, and GPT-4 in any form.

    A weak model's signal is the mean agreement of its samples under all of its prompts, two chains
    of thought and two programs, as in Yue et al., "Large Language Model Cascades with Mixture of
    Thought Representations", 2023; its answer is that of the prompt which is best on the training
    rows.
    """

    def __init__(self, data: Recorded, rows: Rows) -> None:
        columns = [data.table.experts.index(expert) for expert in _ALL]
        self.score_NA = data.table.score_NA[rows][:, columns]
        self.cost_NA = data.table.cost_usd_NA[rows][:, columns]
        self.agreement_NA = data.drafts.agreement_NA[rows][:, columns]

    def logged(self, train: Rows) -> Logged:
        """All rows, with what is chosen by those of `train`."""
        signal, score, cost = [], [], []
        for model in _WEAK:
            columns = [_ALL.index(f"{model}[{style}]") for style in _STYLES]
            best = columns[int(self.score_NA[train][:, columns].mean(axis=0).argmax())]
            signal.append(self.agreement_NA[:, columns].mean(axis=1))
            score.append(self.score_NA[:, best])
            cost.append(self.cost_NA[:, columns].sum(axis=1))
        for expert in _LAST:
            column = _ALL.index(expert)
            signal.append(self.agreement_NA[:, column])
            score.append(self.score_NA[:, column])
            cost.append(self.cost_NA[:, column])
        names = (*(f"{model}[all four]" for model in _WEAK), *_LAST)
        return Logged(names, np.stack(signal, 1), np.stack(score, 1), np.stack(cost, 1))


def _one(
    date: _Date,
    groups: Sequence[str],
    splits: Sequence[tuple[Rows, Rows]],
    strong: tuple[str, ...],
    names: tuple[str, str, str],
    seed: int,
) -> Gated:
    held = np.concatenate([test for _, test in splits])
    values_4N = np.zeros((4, len(groups)))
    shown = ""
    for train, test in splits:
        logged = date.logged(train)
        known, new = logged.take(train), logged.take(test)
        columns = [logged.experts.index(expert) for expert in strong]
        best = columns[int(known.score_NA[:, columns].mean(axis=0).argmax())]
        chain = as_good_as(search(known, depth=2), float(known.score_NA[:, best].mean()))
        if chain is None:
            raise RuntimeError("the strong model itself is a chain of one")
        values_4N[0, test], values_4N[1, test] = chain.replay(new)
        values_4N[2, test], values_4N[3, test] = new.score_NA[:, best], new.cost_usd_NA[:, best]
        shown = Cascaded(chain).name
    values_4N = values_4N[:, held]
    means = values_4N.mean(axis=1)
    drawn_B4 = ClusterBootstrap([groups[row] for row in held], seed=seed).means(
        values_4N, np.ones(values_4N.shape)
    )
    return Gated(
        *names,
        len(held),
        float(means[2]),
        float(means[0]),
        with_interval(float(means[0] - means[2]), drawn_B4[:, 0] - drawn_B4[:, 2]),
        with_interval(float(means[1] / means[3]), drawn_B4[:, 1] / drawn_B4[:, 3]),
        shown,
    )
