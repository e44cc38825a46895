"""Small tables of outcomes to judge with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from routers.records import Floats, OutcomeTable

MakeTable = Callable[..., OutcomeTable]


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
