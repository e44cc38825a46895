"""Small tables of outcomes to judge with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from routers.records import Floats, OutcomeTable

MakeTable = Callable[..., OutcomeTable]
MakeWorld = Callable[..., "World"]


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """Two tables drawn from one truth: sums, poems and chats, told apart by their words."""

    train: OutcomeTable
    test: OutcomeTable


@pytest.fixture
def make_table() -> MakeTable:
    """A table from scores, and whatever else a test needs to say of it."""

    def make(
        scores: Sequence[Sequence[float]] | Floats,
        *,
        costs: Sequence[Sequence[float]] | Floats | None = None,
        tokens: tuple[Floats, Floats] | None = None,
        tasks: Sequence[str | None] | None = None,
        groups: Sequence[str] | None = None,
        prompts: Sequence[str] | None = None,
        propensity: Floats | None = None,
        experts: Sequence[str] | None = None,
    ) -> OutcomeTable:
        score_NA = np.array(scores, dtype=np.float64)
        count, width = score_NA.shape
        unknown = np.full(score_NA.shape, np.nan)
        ids = tuple(f"q{row}" for row in range(count))
        return OutcomeTable(
            query_ids=ids,
            prompts=tuple(prompts or (f"prompt {row}" for row in range(count))),
            tasks=tuple(tasks or (None,) * count),
            groups=tuple(groups or ids),
            experts=tuple(experts or "abcdefghij"[:width]),
            score_NA=score_NA,
            prompt_tokens_NA=unknown if tokens is None else tokens[0],
            output_tokens_NA=unknown if tokens is None else tokens[1],
            cost_usd_NA=unknown if costs is None else np.array(costs, dtype=np.float64),
            latency_s_NA=unknown,
            propensity_NA=np.ones(score_NA.shape) if propensity is None else propensity,
        )

    return make


SKILL = {"sum": (0.98, 0.55, 0.7), "poem": (0.2, 0.6, 0.9), "chat": (0.5, 0.7, 0.75)}
WORDS = {
    "sum": ("add", "plus", "total", "count", "minus"),
    "poem": ("verse", "rhyme", "moon", "stanza", "lyric"),
    "chat": ("hello", "friend", "weekend", "weather", "coffee"),
}


@pytest.fixture(scope="session")
def make_world() -> MakeWorld:
    """Cheap `calc` is right on sums, dear `large` on everything, `middle` is between."""

    def make(count: int, seed: int = 0, *, costs: bool = True, tasks: bool = True) -> World:
        rng = np.random.default_rng(seed)
        return World(
            _drawn(count, rng, "train", costs, tasks), _drawn(count, rng, "test", costs, tasks)
        )

    return make


def _drawn(
    count: int, rng: np.random.Generator, side: str, costs: bool, tasks: bool
) -> OutcomeTable:
    names = list(SKILL)
    kinds = [names[i] for i in rng.integers(len(names), size=count)]
    prompts = [" ".join(rng.choice(WORDS[kind], size=6)) + f" {i}" for i, kind in enumerate(kinds)]
    truth = np.array([SKILL[kind] for kind in kinds])
    score = (rng.random(truth.shape) < truth).astype(np.float64)
    prompt_tokens = np.full(truth.shape, 10.0)
    output_tokens = rng.integers(20, 80, size=truth.shape).astype(np.float64)
    usd = (prompt_tokens * 1.0 + output_tokens * 2.0) / 1e6 * np.array([1.0, 5.0, 30.0])
    ids = tuple(f"{side}-{i}" for i in range(count))
    return OutcomeTable(
        query_ids=ids,
        prompts=tuple(prompts),
        tasks=tuple(kinds) if tasks else (None,) * count,
        groups=ids,
        experts=("calc", "large", "middle"),
        score_NA=score[:, [0, 2, 1]],
        prompt_tokens_NA=prompt_tokens,
        output_tokens_NA=output_tokens[:, [0, 2, 1]],
        cost_usd_NA=usd[:, [0, 2, 1]] if costs else np.full(truth.shape, np.nan),
        latency_s_NA=np.full(truth.shape, np.nan),
        propensity_NA=np.ones(truth.shape),
    )
