"""A world whose truth is known: prompts of ten kinds, eight experts, and a swap on the way."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from experts.cards import Prices
from routers.records import Floats, OutcomeTable

Indices = npt.NDArray[np.intp]

EXPERTS = tuple(f"expert-{column}" for column in range(8))
KINDS = 10
_WORDS_OF_A_KIND = 12
_COMMON_WORDS = 60
_LONGEST = 14
# What a dollar per million tokens is to an expert of each column; the first is the dearest.
_PRICE_A = np.array([8.0, 1.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0])
_TOKENS = 1000.0
COST_A = _PRICE_A * _TOKENS / 1e6
PRICES = {
    expert: Prices(price, price) for expert, price in zip(EXPERTS, _PRICE_A.tolist(), strict=True)
}
WORTH = 0.1
"""Quality points that saving the mean cost of the pool is worth, as `utility` counts elsewhere."""


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """Requests in the order in which they come.

    Attributes:
        prompts: Length N.
        kind_N: What each is about; nobody who decides is told, but for the buckets.
        truth_NA: P(right) of each expert at that time.
        score_NA: What each expert would get; a learner is shown what it asked for.
        draw_N: The number that decides each draw, the same for everybody.
    """

    prompts: tuple[str, ...]
    kind_N: Indices
    truth_NA: Floats
    score_NA: Floats
    draw_N: Floats

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def worth(self) -> Floats:
        """Expected utility, quality less what the cost is worth, shape (N, A)."""
        worth_NA: Floats = self.truth_NA - WORTH * COST_A / COST_A.mean()
        return worth_NA

    def take(self, rows: Indices) -> Stream:
        """The same stream with only `rows`."""
        return Stream(
            tuple(self.prompts[row] for row in rows.tolist()),
            self.kind_N[rows],
            self.truth_NA[rows],
            self.score_NA[rows],
            self.draw_N[rows],
        )

    def table(self, rows: Indices) -> OutcomeTable:
        """Outcomes of having asked everybody."""
        names = tuple(f"q{row:06d}" for row in rows.tolist())
        shape = (len(rows), len(EXPERTS))
        return OutcomeTable(
            query_ids=names,
            prompts=tuple(self.prompts[row] for row in rows.tolist()),
            tasks=(None,) * len(rows),
            groups=names,
            experts=EXPERTS,
            score_NA=self.score_NA[rows],
            prompt_tokens_NA=np.full(shape, _TOKENS / 2),
            output_tokens_NA=np.full(shape, _TOKENS / 2),
            cost_usd_NA=np.tile(COST_A, (len(rows), 1)),
            latency_s_NA=np.full(shape, np.nan),
            propensity_NA=np.ones(shape),
        )


def shown(table: OutcomeTable, chosen_N: Indices, chance_NA: Floats) -> OutcomeTable:
    """What a log holds of `table` when one expert answered each request."""
    rows = np.arange(len(table))
    hidden_NA = np.ones(table.score_NA.shape, dtype=bool)
    hidden_NA[rows, chosen_N] = False
    return replace(
        table,
        score_NA=np.where(hidden_NA, np.nan, table.score_NA),
        prompt_tokens_NA=np.where(hidden_NA, np.nan, table.prompt_tokens_NA),
        output_tokens_NA=np.where(hidden_NA, np.nan, table.output_tokens_NA),
        cost_usd_NA=np.where(hidden_NA, np.nan, table.cost_usd_NA),
        propensity_NA=np.where(hidden_NA, 1.0, chance_NA),
    )


def make_stream(rows: int, drift_at: int, *, seed: int, world: int = 0) -> Stream:
    """A dear expert that is good at everything, a cheap one that is not, and six specialists.

    From request `drift_at` on, the dear and the cheap one have each other's competence, as when a
    provider puts another model behind a name.

    Args:
        rows: Requests.
        drift_at: 0 is a stream after the swap, `rows` one before it.
        seed: Source of what is asked and of every score.
        world: Source of what experts are good at.
    """
    skill_KA = _skills(np.random.default_rng(world))
    rng = np.random.default_rng([seed, 1])
    kind_N = rng.integers(KINDS, size=rows)
    truth_NA = skill_KA[kind_N]
    truth_NA[drift_at:, :2] = truth_NA[drift_at:, 1::-1]
    score_NA = (rng.random(truth_NA.shape) < truth_NA).astype(np.float64)
    prompts = tuple(_prompt(int(kind), rng) for kind in kind_N)
    return Stream(prompts, kind_N, truth_NA, score_NA, rng.random(rows))


def _skills(rng: np.random.Generator) -> Floats:
    """P(right) by kind and expert, shape (K, A)."""
    skill_KA: Floats = rng.uniform(0.2, 0.5, size=(KINDS, len(EXPERTS)))
    skill_KA[:, 0] = rng.uniform(0.75, 0.9, size=KINDS)
    for specialist in range(2, len(EXPERTS)):
        skill_KA[specialist - 2, specialist] = rng.uniform(0.85, 0.95)
    return skill_KA


def _prompt(kind: int, rng: np.random.Generator) -> str:
    count = int(rng.integers(6, _LONGEST))
    own = rng.random(count) < 0.6
    place_W = rng.integers(10**6, size=count)
    words = [
        f"k{kind}w{place % _WORDS_OF_A_KIND}" if mine else f"common{place % _COMMON_WORDS}"
        for place, mine in zip(place_W.tolist(), own.tolist(), strict=True)
    ]
    return " ".join(words)
